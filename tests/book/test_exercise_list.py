"""The site: a chapter lists its exercises, solutions are folded and unmarked; a book about another model has none."""

import re

import pytest
import yaml
from tiny_book import EXERCISES, HEAD, write

from quantcliff.book import Book, assemble, render

CHAPTER = "# One\n\n```{code-cell} ipython3\n1 + 1\n```\n\n## Exercises\n\n```{exercises}\n```\n"


@pytest.fixture
def book(tmp_path) -> Book:
    """A chapter with an exercise page, which is about the embedded model."""
    root = write(tmp_path / "root", one=CHAPTER)
    (root / "book" / "exercises").mkdir()
    head = HEAD.replace("---\njupytext", "---\nabout: atlas\njupytext")
    (root / "book" / "exercises" / "one.md").write_text(head + EXERCISES)
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    toc["chapters"][0]["sections"] = [{"file": "book/exercises/one"}]
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    return Book.read(root)


def site(book: Book, model: str, folder):
    assemble(book.of(model), {}, folder / "source")
    return render(folder / "source", folder / "html").parent / "book"


def test_exercises_are_listed_in_their_chapter_and_folded_on_their_page(book, tmp_path):
    pages = site(book, "atlas", tmp_path / "out")
    chapter, page = (file.read_text() for file in (pages / "one.html", pages / "exercises" / "one.html"))
    text = re.sub(r"<[^>]+>", "", chapter)
    assert re.search(r"The exercises on this chapter\s+take about 20 minutes", text)
    assert "First title (concept, 5 minutes)" in text and "Second title (code, 15 minutes)" in text
    assert 'href="exercises/one.html#one-1"' in chapter or 'href="exercises/one.html#one_1"' in chapter
    assert len(re.findall(r'class="[^"]*solution dropdown', page)) == 1
    assert "BEGIN SOLUTION" not in page and "END SOLUTION" not in page
    assert "course.check" in re.sub(r"<[^>]+>", "", page)


def test_a_book_about_another_model_says_where_the_exercises_are(book, tmp_path):
    pages = site(book, "other", tmp_path / "out")
    assert "The exercises on this chapter are about the embedded model" in (pages / "one.html").read_text()
    assert not (pages / "exercises").exists()
