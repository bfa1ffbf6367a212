"""Every exercise page as it stands in the book: solutions are right, likely mistakes are told apart, editions run.

Pages are found in the table of contents. They run in this process, on few facts and plain rounding.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nbformat import NotebookNode

from quantcliff.book import Book, course, editions
from quantcliff.book.course import checking
from quantcliff.book.exercises import BEGIN, END, LEVELS, listed

BOOK = Book.read(Path(__file__).parents[3])
PAGES = {chapter.file.stem: chapter for chapter in BOOK.chapters if chapter.is_exercise}
NAMES = {chapter.file.stem for chapter in BOOK.chapters if not chapter.is_exercise}
SMALL = {"n_facts": 200, "method": "rtn", "n_prompts": 20, "n_patched": 10}
"""What pages are given in place of their own values, those of these names that they have."""


class Asked(NamedTuple):
    """One call of `course.check` on a page."""

    name: str
    answer: Any
    data: tuple[Any, ...]
    outcome: course.Outcome


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """One run folder for all pages."""
    return tmp_path_factory.mktemp("run")


def ran(notebook: NotebookNode, run: Path, monkeypatch) -> list[Asked]:
    """Run a notebook's cells; the checks that it made."""
    found: list[Asked] = []

    def check(name, answer, *data):
        found.append(Asked(name, answer, data, checking.check(name, answer, *data)))
        return found[-1].outcome

    monkeypatch.setattr(course, "check", check)
    names: dict[str, Any] = {}
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        exec(compile(cell.source, f"cell {number}", "exec"), names)
        if "parameters" in cell.metadata.get("tags", []):
            names |= {key: value for key, value in SMALL.items() if key in names} | {"run": str(run)}
    return found


def solutions(notebook: NotebookNode) -> Iterator[str]:
    """Lines of code that stand between the marks and nowhere outside them."""
    inside, outside = [], set()
    for cell in notebook.cells:
        held = False
        for line in cell.source.splitlines() if cell.cell_type == "code" else []:
            held = (held or line.strip() == BEGIN) and line.strip() != END
            (inside.append if held else outside.add)(line.strip())
    return (line for line in inside if line and line not in outside and not line.startswith("#"))


def test_every_page_has_a_chapter_and_checkers_and_every_checker_a_page():
    assert PAGES.keys() <= NAMES
    assert sorted(PAGES) == checking.chapters()


@pytest.mark.parametrize("name", PAGES)
def test_page_announces_its_exercises(name):
    found = listed(PAGES[name].notebook)
    assert [one.label for one in found] == [f"{name}_{number}" for number in checking.exercises(name)]
    assert 3 <= len(found) <= 6
    assert {"Concept", "Code"} <= {one.level for one in found} <= set(LEVELS)
    assert len({one.title for one in found}) == len(found)
    assert all(1 <= one.minutes <= 60 for one in found)
    assert PAGES[name].about == "atlas"
    chapter = PAGES[name].file.parents[1] / f"{name}.md"
    assert "```{exercises}\n```" in chapter.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_solutions_are_right_and_likely_mistakes_are_told_what_is_wrong(name, run, monkeypatch):
    asked = ran(editions.exercise_notebook(PAGES[name], editions.INSTRUCTOR, NAMES), run, monkeypatch)
    assert [one.name for one in asked] == [f"{name}_{number}" for number in checking.exercises(name)]
    for one in asked:
        assert one.outcome.right, f"{one.name}: {one.outcome.says}"
        mistakes = checking.find(one.name).mistakes(*one.data)
        assert len(mistakes) >= 2, one.name
        assert len({says for _, says in mistakes}) == len(mistakes), one.name
        for answer, says in mistakes:
            told = checking.check(one.name, answer, *one.data)
            assert not told.right, f"{one.name} takes what should be told: {says}"
            assert told.says == says
            assert says.endswith((".", "?"))


@pytest.mark.parametrize("name", PAGES)
def test_student_notebook_holds_no_solution_and_runs_with_nothing_filled_in(name, run, monkeypatch):
    notebook = editions.exercise_notebook(PAGES[name], editions.STUDENT, NAMES)
    text = "\n".join(cell.source for cell in notebook.cells)
    lines = {line.strip() for line in text.splitlines()}
    assert not [line for line in solutions(PAGES[name].notebook) if line in lines]
    assert BEGIN not in text and "olution" not in text and "expected(" not in text
    asked = ran(notebook, run, monkeypatch)
    assert [one.name for one in asked] == [f"{name}_{number}" for number in checking.exercises(name)]
    assert not any(one.outcome.right for one in asked)
    assert all("no answer yet" in one.outcome.says or "returns nothing yet" in one.outcome.says for one in asked)
