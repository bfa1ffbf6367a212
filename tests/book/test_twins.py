"""Notebook twins: what they install, that they say their parameters, that papermill's own command runs them."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from tiny_book import CHAPTER, write

from quantcliff.book import Book, assemble, twins

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
URL = "https://github.com/someone/quantcliff"


@pytest.fixture
def book(tmp_path) -> Book:
    hidden = "\n```{code-cell} ipython3\n:tags: [remove-input]\n\n1\n```\n"
    return Book.read(
        write(tmp_path / "root", one=CHAPTER.replace("bits = 4", "bits = 4\nown = 1") + hidden, two=CHAPTER)
    )


def papermill(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-m", "papermill", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_a_twin_installs_its_version_first_and_has_no_outputs(book):
    cells = twins.twin(book.chapter("one"), book).cells
    assert f'--find-links . "quantcliff=={PROJECT["version"]}"' in cells[0].source
    assert 'if importlib.util.find_spec("quantcliff") is None:' in cells[0].source
    there = f'"quantcliff @ {URL}/raw/notebooks/quantcliff-{PROJECT["version"]}-py3-none-any.whl"'
    assert cells[0].source.replace(cells[0].source.split("--quiet ")[1], there) == (
        twins.twin(book.chapter("one"), book, URL).cells[0].source
    )
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert [bool(cell.metadata.get("jupyter", {}).get("source_hidden")) for cell in code] == [False] * 4 + [True]
    assert code[1].source.splitlines()[:2] == ["bits = 4  # 2 to 8, one or several with commas", "own = 1"]


def test_papermill_s_own_command_runs_and_explains_a_twin(book, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = twins.write(book, tmp_path / "out")
    assert (one, two.name) == (tmp_path / "out" / "book" / "one.ipynb", "two.ipynb")
    told = papermill("--help-notebook", str(one)).stdout
    assert "bits: Unknown type (default 4)" in told and "2 to 8, one or several" in told
    done = papermill(str(one), "ran.ipynb", "-p", "bits", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    said = [
        out.text for cell in nbformat.read("ran.ipynb", 4).cells for out in cell.get("outputs", []) if "text" in out
    ]
    assert said == ["bits are 2\n"]


def test_every_chapter_of_the_book_has_a_valid_twin(tmp_path):
    book = Book.read(ROOT)
    files = twins.write(book, tmp_path)
    pages = [page.file.relative_to(ROOT).with_suffix(".ipynb") for page in book.chapters if page.runs]
    assert [file.relative_to(tmp_path) for file in files] == pages
    for file in files:
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert [cell.id for cell in notebook.cells].count("install") == 1
    twins.write_environment(tmp_path)
    assert (tmp_path / "requirements.txt").read_text().splitlines()[0] == f"./{twins.wheel()}"
    assert (tmp_path / "runtime.txt").read_text() == "python-3.11\n"


@pytest.mark.parametrize("url", ["", URL])
def test_a_book_without_a_repository_has_nothing_to_launch(book, tmp_path, monkeypatch, url):
    monkeypatch.setenv(twins.REPOSITORY, url)
    assemble(book, {}, tmp_path / "source")
    config = yaml.safe_load((tmp_path / "source" / "_config.yml").read_text())
    options = config["sphinx"]["config"]["html_theme_options"]
    assert ("launch_buttons" in options, options.get("repository_url", "")) == (bool(url), url)
    twin = tmp_path / "source" / "_notebooks" / "book" / "one.ipynb"
    assert (URL in twin.read_text()) == bool(url)
    assert "_notebooks" in config["sphinx"]["config"]["html_extra_path"]


def test_the_twin_of_an_exercise_page_is_the_students_and_links_lead_both_ways(tmp_path):
    book = Book.read(ROOT)
    page = book.chapter("macro_exercises")
    text = "\n".join(cell.source for cell in twins.twin(page, book).cells)
    assert 'course.check("macro_1", answer)' in text
    assert "SOLUTION" not in text and "**Solution**" not in text
    assert "](../macro.ipynb)" in text and 'run = "../runs/atlas"' in text
    assert twins.twin(page, book).cells[0].source.startswith("# Where quantcliff is not installed")
    written = {file.relative_to(tmp_path) for file in twins.write(book.of("atlas"), tmp_path)}
    assert {Path("book/macro.ipynb"), Path("book/exercises/macro.ipynb")} <= written
    chapter = "\n".join(cell.source for cell in twins.twin(book.chapter("macro"), book).cells)
    assert "](exercises/macro.ipynb)" in chapter
