"""One source: what is stripped from a page for students, what stays, and what a page says of its exercises."""

import jupytext
import pytest
from tiny_book import EXERCISES

from quantcliff.book.exercises import asked, listed, stripped, unmarked


def page(text: str = EXERCISES):
    return jupytext.reads(text, fmt="md:myst")


def test_students_get_questions_and_stubs_and_nothing_of_the_solutions():
    cells = list(asked(page()))
    assert [cell.source for cell in cells if cell.cell_type == "code"] == [
        'answer = ...  # your answer\ncourse.check("one_1", answer)'
    ]
    text = "\n".join(cell.source for cell in cells)
    assert "hidden" not in text and "solution" not in text and ":class:" not in text
    assert "First title" in text and "Second title" in text and "Text at the end." in text


def test_the_source_stays_what_it_was():
    notebook = page()
    before = [cell.source for cell in notebook.cells]
    list(asked(notebook))
    assert [cell.source for cell in notebook.cells] == before


def test_exercises_are_listed_with_level_and_minutes():
    assert [tuple(one) for one in listed(page())] == [
        ("one_1", "First title", "Concept", 5), ("one_2", "Second title", "Code", 15),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "spoiled",
    [("**Concept, 5 minutes.**", "Concept."), (":label: one_1\n", ""), (" First title", ""), ("Concept,", "Hard,")],
)
def test_an_exercise_that_announces_less_is_refused(spoiled):
    with pytest.raises(ValueError, match="must begin with a title"):
        listed(page(EXERCISES.replace(*spoiled)))


def block(*lines: str, indent: str = "") -> str:
    return "\n".join(f"{indent}{line}" for line in ("### BEGIN SOLUTION", *lines, "### END SOLUTION"))


@pytest.mark.parametrize(
    ("source", "left"),
    [
        (block("a = 1") + "\nprint(a)", "a = ...  # your answer\nprint(a)"),
        (block("a = 1", "b = a + 1") + "\nprint(b)", "b = ...  # your answer\nprint(b)"),
        (block("x, (y, z) = 1, (2, 3)") + "\nz - x", "x = ...  # your answer\nz = ...  # your answer\nz - x"),
        (block("def f():", "    return 1") + "\nprint(f)", "f = ...  # your answer\nprint(f)"),
        (block("print(1)"), ""),
        ("q = 1\n" + block("print(q)"), "q = 1"),
        ("def f(x):\n" + block("return x", indent="    ") + "\n\nf(1)", "def f(x):\n    ...  # your code here\n\nf(1)"),
        (block("a = 1") + "\n" + block("b = 2") + "\na + b", "a = ...  # your answer\nb = ...  # your answer\na + b"),
        (block("d = {}", "d['k'] = 1") + "\nprint(d)", "d = ...  # your answer\nprint(d)"),
        ("print(1)", "print(1)"),
    ],
)
def test_stubs_keep_a_cell_running(source, left):
    assert stripped(source) == left


def test_an_open_solution_is_refused_rather_than_shown():
    with pytest.raises(ValueError, match="without ### END SOLUTION"):
        stripped("### BEGIN SOLUTION\na = 1")


def test_the_site_shows_solutions_without_their_marks():
    assert unmarked("def f():\n" + block("return 1", indent="    ")) == "def f():\n    return 1"
