"""What the course page says of other pages, rendered in one small book; and the plans of the real one."""

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from tiny_book import write

from quantcliff.book import Book, assemble, render

ROOT = Path(__file__).parents[2]
WORDS = "# Page NAME\n\n" + "word " * 998 + "\n"
ASKED = "# Asked\n\n```{exercise} One\n:label: one_1\n\n**Code, 15 minutes.** Do.\n```\n"
COURSE = """\
# NAME

```{page-times} one two
```

All: {page-minutes}`one two`; {page-minutes}`two`.

```{decks} one
```
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The article of a course page about two others: `one` has an exercise, `two` ran for 100 seconds."""
    root = write(tmp_path_factory.mktemp("course") / "root", one=WORDS, two=WORDS, course=COURSE)
    (root / "book" / "exercises").mkdir()
    (root / "book" / "exercises" / "one.md").write_text(ASKED)
    toc = root / "_toc.yml"
    below = "- file: book/one\n  sections:\n  - file: book/exercises/one"
    toc.write_text(toc.read_text().replace("- file: book/one", below))
    book = Book.read(root)
    two = book.chapter("two").notebook
    two.metadata["papermill"] = {"duration": 100.0}
    nbformat.write(two, root / "two.ipynb")
    assemble(book, {book.chapter("two"): root / "two.ipynb"}, root / "out")
    file = render(root / "out", root / "html").parent / "book" / "course.html"
    return BeautifulSoup(file.read_text(), "html.parser").select_one("article.bd-article")


def test_the_table_says_what_each_page_takes_and_the_sum(page):
    rows = [[cell.get_text().strip() for cell in row.select("th, td")] for row in page.select("table tr")]
    assert rows == [
        ["Page", "Reading", "Exercises", "Running"],
        ["Page one", "5 minutes", "15 minutes", "nothing runs"],
        ["Page two", "5 minutes", "none", "2 minutes"],
        ["Together", "10 minutes", "15 minutes", "2 minutes"],
    ]
    assert page.select_one("table a")["href"] == "one.html"


def test_sums_stand_in_a_sentence(page):
    assert "All: 10 minutes, 15 for the exercises; 5 minutes." in page.get_text()


def test_decks_are_linked_beside_the_pages(page):
    assert [(link.get_text(), link["href"]) for link in page.select("li a")] == [("Page one", "../slides/one.html")]


def test_minutes_of_the_plans_add_up_and_pages_are_in_the_book():
    text = (ROOT / "book" / "course.md").read_text(encoding="utf-8")
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    sums = {name: sum(map(int, re.findall(r"^\| (\d+) \|", part, re.M))) for name, part in parts.items()}
    assert (sums["One lecture"], sums["One day"], sums["Four weeks"]) == (90, 6 * 60, 4 * 2 * 90)
    names = {chapter.name for chapter in Book.read(ROOT).chapters}
    weeks = re.findall(r"\{page-minutes\}`([^`]+)`", text)
    assert len(weeks) == 4 and {name for week in weeks for name in week.split()} <= names
    (timed,) = re.findall(r"\{page-times\} (.+)", text)
    (decks,) = re.findall(r"\{decks\} (.+)", text)
    assert set(" ".join(weeks).split()) == set(timed.split()) >= set(decks.split())
