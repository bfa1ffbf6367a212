"""A folder of notebooks for a course: every chapter, and its exercises without solutions or with them.

Both editions come from the one source of a page (`exercises`); what the checkers expect comes from the checkers.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode, v4

from quantcliff.book import course, plain
from quantcliff.book.chapters import Book, Chapter
from quantcliff.book.exercises import asked, listed
from quantcliff.errors import InputError

STUDENT, INSTRUCTOR = "student", "instructor"
MODEL = "atlas"
"""Exercises are about the embedded model."""

README = """\
# The quantization cliff: {kind} edition

One notebook for each chapter of the book, and in `exercises` one for each chapter that has exercises. {how}

The notebooks need Python 3.11 or 3.12 with quantcliff and Jupyter: `pip install quantcliff jupyterlab`, then `jupyter
lab` in this folder. No GPU, and no network after that. What a notebook measures is kept in `runs` and read by the
others; the first run of a chapter takes some minutes, that of most exercises seconds. The exercises, and what their
checks expect, are about the small model that comes with quantcliff; for another model, `quantcliff build -p model
FOLDER` writes the chapters without them.

| Exercise | Level | Minutes |
|---|---|---|
{rows}

Code: MIT. Text: CC BY 4.0.
"""

HOW = {
    STUDENT: "Put your answer where the dots stand and run the cell; `course.check` says whether it is right and, if "
    "not, what is wrong with it.",
    INSTRUCTOR: "After each solution stand what the check expects and what likely wrong answers are told. Solutions in "
    "code stand between the marks that nbgrader strips (`### BEGIN SOLUTION`). Keep this folder to yourself.",
}


ON_THE_SITE_ONLY = ("api", "bibliography", "execution")
"""Pages, and folders of pages, that are lists made for the site."""


class Written(NamedTuple):
    """What an edition holds: how many notebooks of either kind, and exercises in all."""

    chapters: int
    pages: int
    exercises: int


def write(kind: str, out: Path, book: Book | None = None) -> Written:
    """Write an edition, "student" or "instructor", into the folder `out`.

    Raises:
        InputError: `out` is a file, or a folder that is not empty; or there is no such edition or no book here.
    """
    if kind not in HOW:
        raise InputError(f"there is no edition {kind!r}; there are {STUDENT} and {INSTRUCTOR}")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder; give one that is empty, or that does not exist yet")
    whole = (book or Book.read()).of(MODEL)
    chapters = [chapter for chapter in whole.chapters if not chapter.is_exercise and not _is_list(chapter)]
    pages = [chapter for chapter in whole.chapters if chapter.is_exercise]
    names = {chapter.file.stem for chapter in chapters}
    (out / "exercises").mkdir(parents=True, exist_ok=True)
    for chapter in chapters:
        nbformat.write(plain.notebook(chapter, names), out / f"{chapter.file.stem}.ipynb")
    for page in pages:
        nbformat.write(exercise_notebook(page, kind, names), out / "exercises" / f"{page.file.stem}.ipynb")
    rows = [(page, one) for page in pages for one in listed(page.notebook)]
    table = "\n".join(
        f"| [{one.title}](exercises/{page.file.stem}.ipynb) | {one.level.lower()} | {one.minutes} |"
        for page, one in rows
    )
    (out / "README.md").write_text(README.format(kind=kind, how=HOW[kind], rows=table), encoding="utf-8")
    return Written(len(chapters), len(pages), len(rows))


def _is_list(chapter: Chapter) -> bool:
    return not {chapter.file.stem, chapter.file.parent.name}.isdisjoint(ON_THE_SITE_ONLY)


def exercise_notebook(page: Chapter, kind: str, names: set[str]) -> NotebookNode:
    """An exercise page as a notebook without outputs; with solutions and what is expected, or without."""
    cells = list(asked(page.notebook)) if kind == STUDENT else list(_with_expectations(page.notebook))
    found = plain.notebook(page, names, cells)
    for cell in found.cells:
        if "parameters" in cell.metadata.get("tags", []):  # results lie beside the chapters', one folder up
            cell.source = cell.source.replace('run = "runs/', 'run = "../runs/')
    return found


def _with_expectations(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """The cells of a page, and after each check one that says what is expected and what wrong answers are told."""
    for cell in notebook.cells:
        yield cell
        for call in _checks(cell.source) if cell.cell_type == "code" else []:
            name = ast.literal_eval(call.args[0])
            data = "".join(f", {ast.unparse(argument)}" for argument in call.args[2:])
            yield v4.new_markdown_cell(course.likely_mistakes(name))
            yield v4.new_code_cell(f'course.expected("{name}"{data})')


def _checks(source: str) -> list[ast.Call]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [call for call in calls if ast.unparse(call.func) == "course.check"]
