"""The reference of the library: every package has its place, and every name that a chapter imports can be looked up."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from quantcliff.book import Book, reference

ROOT = Path(__file__).parents[2]
BOOK = Book.read(ROOT)
PAGES = [chapter for chapter in BOOK.chapters if chapter.file.parent.name == "api"]
MODULES = re.findall(r"automodule:: (\S+)", "".join(page.file.read_text() for page in PAGES))
FOR_BUILDERS = {"quantcliff.workshop", "quantcliff.training"}
"""Packages that make what ships, with commands of their own."""


def imported(chapter):
    """Modules, and names in them, that a chapter's cells import from this package."""
    for cell in chapter.notebook.cells:
        if cell.cell_type == "code" and "quantcliff" in cell.source:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("quantcliff."):
                    yield from ((node.module, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module == "quantcliff":
                    yield from ((f"quantcliff.{alias.name}", "") for alias in node.names)


@pytest.mark.parametrize("chapter", [c for c in BOOK.chapters if c.runs], ids=lambda chapter: chapter.name)
def test_what_a_chapter_imports_is_described(chapter):
    for module, name in imported(chapter):
        public = getattr(importlib.import_module(module), "__all__", [name])
        known = module in MODULES and (name in public or not name)
        assert known or f"{module}.{name}" in MODULES, f"{module}.{name}"


def test_every_module_is_described_once_and_every_package_is():
    assert len(set(MODULES)) == len(MODULES)
    packages = {
        "quantcliff." + ".".join(file.parent.relative_to(ROOT / "src" / "quantcliff").parts)
        for file in (ROOT / "src" / "quantcliff").rglob("__init__.py")
        if "__all__ = " in file.read_text()
    }
    assert packages - FOR_BUILDERS <= set(MODULES)


def test_every_page_is_in_the_overview():
    overview = (ROOT / "book" / "api" / "index.md").read_text()
    assert {page.file.stem for page in PAGES} - {"index"} == set(re.findall(r"\]\((\w+)\)", overview))


def test_examples_and_names_in_backticks_stay():
    lines = [">>> f(a | b)", "1 | 2", "", "a | b, `c | d`, `e`s and `f` g"]
    assert reference.as_rst(lines) == [*lines[:3], "a \\| b, `c | d`, `e`\\ s and `f` g"]


def test_words_of_a_constant_are_found_where_it_is_passed_on():
    assert reference.words_of("quantcliff.quantizers", "METHODS")
    assert reference.words_of("quantcliff.stages.smollm2", "Shipped") == [], "no constant"
    assert reference.words_of("numpy", "pi") == [], "another package's"
