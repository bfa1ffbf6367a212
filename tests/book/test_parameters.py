"""The table of all parameters: from the chapters alone, and none without a word about it."""

from pathlib import Path

import pytest
from tiny_book import write

from quantcliff.book import Book, parameters

ROOT = Path(__file__).parents[2]
BOOK = Book.read(ROOT)


def page(cell: str) -> str:
    return f"# Page\n\n```{{code-cell}} ipython3\n:tags: [parameters]\n\n{cell}\n```\n"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    root = write(
        tmp_path_factory.mktemp("book") / "root",
        one=page('model = "atlas"\nbits = "4,2"\nn_facts = 5'),
        two=page('model = "atlas"\nbits = "8"\nn_facts = 5\nother_group_sizes = [64, 32]'),
        three=page('model = "atlas"\nbits = "4,2"\nsteep = 0.5\nquick = False\ntext = ""'),
    )
    return parameters.table(Book.read(root)).set_index("name")


def test_types_defaults_and_chapters_are_those_of_the_cells(rows):
    assert list(rows.index) == ["model", "bits", "other_group_sizes", "text", "n_facts", "steep", "quick"]
    assert rows.loc["bits", ["type", "default", "chapters"]].tolist() == ["text", "`4,2`; `8` in two", "all"]
    assert rows.loc["n_facts", ["type", "default", "chapters"]].tolist() == ["whole number", "`5`", "all but three"]
    assert rows.loc["other_group_sizes", ["type", "default", "chapters"]].tolist() == [
        "whole numbers",
        "`64,32`",
        "two",
    ]
    assert rows.loc["text", "default"] == "empty"
    assert rows["type"][["steep", "quick"]].tolist() == ["number", "true or false"]
    assert rows.loc["steep", ["unit", "meaning"]].tolist() == ["", ""]


def test_every_parameter_of_the_book_is_described_and_no_other():
    found = parameters.table(BOOK).set_index("name")
    bare = found[(found["unit"] == "") | (found["meaning"] == "")]
    assert list(bare.index) == [], "describe them in quantcliff/book/parameters.py"
    assert set(parameters.MEANINGS) == set(found.index)


def test_a_parameter_has_one_type_in_all_chapters():
    kinds = {(name, type(value)) for chapter in BOOK.chapters for name, value in chapter.defaults.items()}
    assert len(kinds) == len({name for name, _ in kinds})


def test_the_page_shows_the_table_of_this_book():
    lines = parameters.as_markdown(BOOK).splitlines()
    assert lines[0] == "| Name | Type | Default | Unit | Meaning | Chapters |"
    assert {line.count("|") for line in lines} == {7}
    assert "{{ parameters }}" in (ROOT / "book" / "appendix_rerun.md").read_text()
