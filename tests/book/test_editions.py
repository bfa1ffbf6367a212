"""Both editions from source to folder; and pages as plain notebooks."""

import re
from pathlib import Path

import nbformat
import pytest

from quantcliff.book import Book, editions
from quantcliff.book.plain import markdown
from quantcliff.errors import InputError

BOOK = Book.read(Path(__file__).parents[2])
DIRECTIVE = re.compile(r"^(`{3,}|:{3,})\{(?!code-cell)", re.M)
ROLE = re.compile(r"\{(?:ref|doc|numref|term|eq|cite:\w+)\}`")


@pytest.mark.parametrize("kind", ["student", "instructor"])
def test_an_edition_is_a_folder_of_plain_notebooks(kind, tmp_path):
    out = tmp_path / "new" / "edition"
    written = editions.write(kind, out, BOOK)
    told = [chapter for chapter in BOOK.of("atlas").chapters if chapter.file.parent.name == "book"]
    chapters = {chapter.file.stem for chapter in told} - {"bibliography", "execution"}
    assert {file.stem for file in out.glob("*.ipynb")} == chapters
    assert {file.stem for file in (out / "exercises").glob("*.ipynb")} <= chapters
    assert written.chapters == len(chapters)
    assert written.pages == len(list((out / "exercises").glob("*.ipynb"))) > 0
    readme = (out / "README.md").read_text()
    assert readme.count("](exercises/") == written.exercises
    for file in out.rglob("*.ipynb"):
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert not DIRECTIVE.search(text), file
        assert not ROLE.search(text), file
        assert "{{" not in text, file
        for page in re.findall(r"\]\(([\w./-]+\.ipynb)\)", text):
            assert (file.parent / page).is_file(), f"{file.name} links to {page}"


def test_instructors_see_what_is_expected_and_students_do_not(tmp_path):
    found = {}
    for kind in editions.HOW:
        editions.write(kind, tmp_path / kind, BOOK)
        found[kind] = (tmp_path / kind / "exercises" / "macro.ipynb").read_text()
    for words in ("### BEGIN SOLUTION", "Wrong answers that are expected", "course.expected", "Solution"):
        assert words in found["instructor"]
        assert words not in found["student"]
    assert found["student"].count("course.check(") == found["instructor"].count("course.check(") > 2


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="is not an empty folder; give one"):
            editions.write("student", out, BOOK)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    editions.write("student", tmp_path / "empty", BOOK)
    with pytest.raises(InputError, match="no edition 'teacher'; there are student and instructor"):
        editions.write("teacher", tmp_path / "other", BOOK)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("A {term}`residual stream` and {term}`two <one>`.", "A residual stream and two."),
        ("See {numref}`fig-x`, {eq}`eq-y`, {cite:p}`Key2020`.", "See the chart, the equation, [Key2020]."),
        ("$$\nx\n$$ (eq-name)\n\nmore", "$$\nx\n$$\n\nmore"),
        ("```{math}\n:label: eq-z\nx = 1\n```", "$$\nx = 1\n$$"),
        (":::{dropdown} More\n:open:\ninside\n:::", "**More**\n\ninside"),
        ("````{note}\n```python\nx = 1\n```\n````", "> **Note.** ```python\n> x = 1\n> ```"),
        ("```sh\n{term}`x`\n```", "```sh\n{term}`x`\n```"),
        ("(target)=\n# Title", "# Title"),
        ("```{bibliography}\n```\n\nend", "end"),
    ],
)
def test_myst_becomes_markdown(text, plain):
    assert markdown(text).strip("\n") == plain
