"""A Sphinx extension for the course page: how long pages take, and where their slides are.

    ```{page-times} macro logit_lens
    ```                                        a table: reading, exercises, run time of every page named, and their sums
    {page-minutes}`macro logit_lens`           the sums in words
    ```{decks} macro logit_lens
    ```                                        links to the slides of every page named

Pages are named as files are, and lie beside the page that names them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective, SphinxRole

from quantcliff.book.chapters import Chapter
from quantcliff.book.exercises import listed
from quantcliff.book.page import charts, duration, minutes, run_seconds, words
from quantcliff.book.slides import FOLDER


class Times(NamedTuple):
    """Minutes to read a page and to do its exercises, and the seconds that its cells ran."""

    reading: int
    exercises: int
    running: float


class of_pages(nodes.General, nodes.Inline, nodes.Element):  # noqa: N801
    """Stands for something about other pages until all of them are read; its `kind` says what."""


class OfPages(SphinxDirective):
    """`{page-times}` and `{decks}`, followed by the names of pages."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return [of_pages(kind=self.name, pages=self.arguments[0].split())]


class PageMinutes(SphinxRole):
    """`{page-minutes}` with the names of pages."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [of_pages(kind="page-minutes", pages=self.text.split())], []


def measure(app: Sphinx, document: nodes.document) -> None:
    """Keep what a page takes, as it is read."""
    env = app.env
    source = Path(env.doc2path(env.docname))
    if not hasattr(env, "page_times"):
        env.page_times = {}  # type: ignore[attr-defined]
    reading = minutes(words(document), charts(document))
    asked = sum(one.minutes for one in listed(Chapter(source).notebook)) if source.parent.name == "exercises" else 0
    env.page_times[env.docname] = Times(reading, asked, run_seconds(source) or 0.0)  # type: ignore[attr-defined]


class AboutPages(SphinxPostTransform):
    """Puts in what is asked about other pages."""

    default_priority = 5

    def run(self, **options: Any) -> None:
        """Raises ExtensionError where a page is named that is not there."""
        show = {"page-times": self.table, "page-minutes": self.sums, "decks": self.decks}
        for asked in list(self.document.findall(of_pages)):
            folder = self.env.docname.rpartition("/")[0]
            pages = [f"{folder}/{name}".lstrip("/") for name in asked["pages"]]
            for page in pages:
                if page not in self.env.titles:
                    raise ExtensionError(f"{self.env.docname} asks about a page {page} that is not in the book")
            asked.replace_self(show[asked["kind"]](pages))

    def times(self, page: str) -> Times:
        """Those of a page, with the minutes of its exercises."""
        known = self.env.page_times  # type: ignore[attr-defined]
        folder, _, name = page.rpartition("/")
        asked = known.get(f"{folder}/exercises/{name}".lstrip("/"))
        return known[page]._replace(exercises=asked.exercises if asked else 0)

    def total(self, pages: Sequence[str]) -> Times:
        """Sums over pages."""
        return Times(*map(sum, zip(*map(self.times, pages), strict=True)))

    def sums(self, pages: Sequence[str]) -> nodes.Node:
        total = self.total(pages)
        asked = f", {total.exercises} for the exercises" if total.exercises else ""
        return nodes.Text(f"{total.reading} minutes{asked}")

    def table(self, pages: Sequence[str]) -> nodes.Node:
        rows: list[Iterable[nodes.Node]] = [[nodes.Text(name) for name in ("Page", "Reading", "Exercises", "Running")]]
        for page in pages:
            rows.append([self.link(page), *self.cells(self.times(page))])
        rows.append([nodes.Text("Together"), *self.cells(self.total(pages))])
        return _table(rows)

    def cells(self, times: Times) -> Iterable[nodes.Node]:
        asked = f"{times.exercises} minutes" if times.exercises else "none"
        running = duration(times.running) if times.running else "nothing runs"
        return map(nodes.Text, (f"{times.reading} minutes", asked, running))

    def decks(self, pages: Sequence[str]) -> nodes.Node:
        up = "../" * self.env.docname.count("/")
        links = [self._link(page, f"{up}{FOLDER}/{page.rpartition('/')[2]}.html") for page in pages]
        return nodes.bullet_list("", *(nodes.list_item("", nodes.paragraph("", "", link)) for link in links))

    def link(self, page: str) -> nodes.Node:
        return self._link(page, self.app.builder.get_relative_uri(self.env.docname, page))

    def _link(self, page: str, address: str) -> nodes.Node:
        return nodes.reference("", self.env.titles[page].astext(), refuri=address, internal=True)


def _table(rows: Sequence[Iterable[nodes.Node]]) -> nodes.table:
    """A table whose first row is its head."""
    lines = [nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in row)) for row in rows]
    group = nodes.tgroup(cols=len(lines[0]))
    group += [nodes.colspec(colwidth=1) for _ in lines[0]]
    group += [nodes.thead("", lines[0]), nodes.tbody("", *lines[1:])]
    return nodes.table("", group)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_node(of_pages)
    app.add_directive("page-times", OfPages)
    app.add_directive("decks", OfPages)
    app.add_role("page-minutes", PageMinutes())
    app.add_post_transform(AboutPages)
    app.connect("doctree-read", measure)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
