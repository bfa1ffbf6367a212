"""Chapters as notebooks to take along: they run wherever `quantcliff` can be installed, in Jupyter and with papermill.

A Sphinx extension too: pages offer their twin for download and, if the site knows a repository, for launch.
"""

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode, v4
from sphinx.application import Sphinx

from quantcliff.book import editions, plain
from quantcliff.book.chapters import Book, Chapter
from quantcliff.book.parameters import MEANINGS

REPOSITORY = "QUANTCLIFF_REPOSITORY"
"""Environment variable with the address of a public repository, such as https://github.com/someone/quantcliff. It may
stand in `_config.yml` as well, as `repository: url:`."""

BRANCH = "notebooks"
"""Of the repository; holds what `write` writes, and the wheel."""

LAUNCHERS = {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org",
             "notebook_interface": "jupyterlab"}  # fmt: skip

INSTALL = """\
# Where quantcliff is not installed: version {version}, and with it all that this notebook was made with.
import importlib.util

if importlib.util.find_spec("quantcliff") is None:
    %pip install --quiet {what}"""


def repository(config: Mapping[str, Any]) -> str:
    """Address of the public repository; "" where neither the environment nor the book's configuration has one."""
    return (os.environ.get(REPOSITORY) or (config.get("repository") or {}).get("url") or "").rstrip("/")


def repository_of(book: Book) -> str:
    """`repository` of a book."""
    return repository(yaml.safe_load((book.root / "_config.yml").read_text(encoding="utf-8")) or {})


def launching(url: str) -> dict[str, Any]:
    """Options of the theme for launch buttons; none without a repository, and then there are no buttons."""
    return {"repository_url": url, "repository_branch": BRANCH, "launch_buttons": LAUNCHERS} if url else {}


def wheel() -> str:
    """Name of the package's wheel."""
    return f"quantcliff-{version('quantcliff')}-py3-none-any.whl"


def requirement(url: str) -> str:
    """What pip is asked for: the wheel on the repository's branch; without one, a wheel here or on the index."""
    if url:
        return f'"quantcliff @ {url}/raw/{BRANCH}/{wheel()}"'
    return f'--find-links . "quantcliff=={version("quantcliff")}"'


def has_twin(chapter: Chapter) -> bool:
    """Pages with code have one."""
    return chapter.runs


def twin(chapter: Chapter, book: Book, url: str = "") -> NotebookNode:
    """A chapter without outputs; a cell that installs comes first, and the parameters say what they are. The twin of an
    exercise page is the student's: without solutions.

    Args:
        book: whose other chapters its links may lead to.
        url: of the repository.
    """
    names = {other.file.stem for other in book.chapters if has_twin(other)}
    exercise = chapter.is_exercise
    notebook = (
        editions.exercise_notebook(chapter, editions.STUDENT, names) if exercise else plain.notebook(chapter, names)
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.source = "\n".join(map(_explained, cell.source.splitlines()))
        elif {"hide-input", "remove-input"} & set(tags):
            cell.metadata["jupyter"] = {"source_hidden": True}
    cell = v4.new_code_cell(INSTALL.format(version=version("quantcliff"), what=requirement(url)))
    cell["id"] = "install"
    notebook.cells.insert(0, cell)
    return notebook


def _explained(line: str) -> str:
    """A parameter's line with what it is behind it, where papermill looks for its help."""
    name = line.split(" = ")[0]
    return line if "#" in line or name not in MEANINGS else f"{line}  # {MEANINGS[name][1].replace('`', '')}"


def write(book: Book, folder: Path, url: str = "") -> list[Path]:
    """All twins under `folder`, at their chapters' paths (`book/macro.ipynb`); returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for chapter in filter(has_twin, book.chapters):
        file = folder / chapter.file.relative_to(book.root).with_suffix(".ipynb")
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(twin(chapter, book, url), file)
        files.append(file)
    return files


def write_environment(folder: Path) -> None:
    """What Binder needs beside the twins: the version of Python, and the wheel, which the folder must hold as well."""
    (folder / "requirements.txt").write_text(f"./{wheel()}\njupyterlab\n", encoding="utf-8")
    (folder / "runtime.txt").write_text("python-3.11\n", encoding="utf-8")


def _offer(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the twin among a page's downloads; a page without one can not be launched either."""
    groups = context.get("header_buttons", [])
    if not (Path(app.srcdir) / EXTRA / f"{pagename}.ipynb").is_file():
        context["header_buttons"] = [group for group in groups if group.get("label") != "launch-buttons"]
        return
    button = {"type": "link", "url": context["pathto"](f"{pagename}.ipynb", 1), "text": "to run", "icon": "fas fa-play",
              "tooltip": "Download this page as a notebook to run", "label": "download-twin-button"}  # fmt: skip
    for group in groups:
        if group.get("label") == "download-buttons":
            group["buttons"].insert(0, button)


EXTRA = "_notebooks"
"""Folder of the assembled book from which the twins go into the site."""


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", _offer, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
