"""Every question and signal has a chapter, and chapters are called what the book calls them."""

import re
from pathlib import Path

import pytest

from quantcliff.diagnosis.chapters import EXPLAINED, TITLES, Chapter, chapter_of
from quantcliff.stages.verdict import QUESTIONS
from quantcliff.stages.verdict.signals import SIGNALS

BOOK = Path(__file__).parents[2] / "book"


@pytest.mark.parametrize("page", TITLES)
def test_titles_are_those_of_the_book(page):
    assert re.search(r"^# (.+)$", (BOOK / f"{page}.md").read_text(), re.MULTILINE)[1] == TITLES[page]


def test_everything_that_is_asked_is_explained_somewhere():
    asked = {*(question.name for question in QUESTIONS), *(signal.name for signal in SIGNALS)}
    assert asked - set(EXPLAINED) == set()
    assert set(EXPLAINED.values()) == set(TITLES)


def test_the_address_is_that_of_the_page():
    assert chapter_of("repair", "https://a.example") == Chapter(TITLES["repair"], "https://a.example/book/repair.html")
    assert chapter_of("repair", "") == Chapter(TITLES["repair"], "")
