"""A Sphinx extension: the directive `{exercises}` lists what a chapter's exercise page asks; marks of solutions go.

The page of `book/macro` is `book/exercises/macro`. A site about another model has no such pages, and says so.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import jupytext
import nbformat
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from quantcliff.book.exercises import BEGIN, listed, unmarked

FOLDER = "exercises"
NONE = "The exercises on this chapter are about the embedded model; they stand in the book about it."


class Exercises(SphinxDirective):
    """`{exercises}`: the exercises on this page, with level and minutes, each a link."""

    def run(self) -> list[nodes.Node]:
        page = PurePosixPath(self.env.docname)
        target = str(page.parent / FOLDER / page.name)
        text = self.text(target) if target in self.env.found_docs else NONE
        box = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), self.get_source_info()[0]), self.content_offset, box)
        return list(box.children)

    def text(self, target: str) -> str:
        file = Path(self.env.doc2path(target))
        self.env.note_dependency(str(file))
        page = nbformat.read(file, as_version=4) if file.suffix == ".ipynb" else jupytext.read(file, fmt="md:myst")
        found = listed(page)
        total = sum(one.minutes for one in found)
        rows = [f"1. {{ref}}`{one.title} <{one.label}>` ({one.level.lower()}, {one.minutes} minutes)" for one in found]
        head = (
            f"{{doc}}`The exercises on this chapter </{target}>` take about {total} minutes. Each has a hidden "
            "solution and a check that says what is wrong with an answer. `quantcliff edition student OUT` writes them "
            "as notebooks without solutions."
        )
        return "\n".join([head, "", *rows])


def hide_marks(app: Sphinx, docname: str, source: list[str]) -> None:
    """Take the marks of solutions out of a page's source before it is parsed."""
    if BEGIN not in source[0]:
        return
    if not source[0].lstrip().startswith("{"):
        source[0] = unmarked(source[0])
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        cell["source"] = unmarked("".join(cell["source"]))
    source[0] = json.dumps(notebook)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("exercises", Exercises)
    app.connect("source-read", hide_marks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
