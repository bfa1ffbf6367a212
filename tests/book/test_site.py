"""Whole builds of a tiny book: what is executed when, what stops a build, what a killed one leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from tiny_book import CHAPTER, HEAD, write

from quantcliff.book import Book
from quantcliff.book import site as book
from quantcliff.errors import BuildError, InputError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of a book of two chapters, `one` and `two`; the library it depends on is one file beside it."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "code.py").write_text("x = 1\n")
    monkeypatch.setattr(book, "PACKAGE", tmp_path / "library")
    monkeypatch.chdir(write(tmp_path / "root", one=CHAPTER, two=CHAPTER))
    return tmp_path / "root"


@pytest.fixture
def unrendered(monkeypatch):
    """Leave rendering out, which takes seconds and is tested on its own."""
    monkeypatch.setattr(book, "render", lambda source, html: html / "index.html")


def runs(root: Path) -> str:
    """The chapters that were executed, in order, as one string."""
    file = root / "count"
    return " ".join(file.read_text().split()) if file.exists() else ""


def build(**parameters: object) -> Path:
    return book.build(Book.read(), parameters, Path("out"))


def test_two_page_book_from_source_to_site(root, monkeypatch):
    monkeypatch.setenv("QUANTCLIFF_REPOSITORY", "https://github.com/someone/quantcliff")
    index = build(bits=2)
    assert index == Path("out/html/index.html")
    assert "intro.html" in index.read_text()
    page = (root / "out/html/book/two.html").read_text()
    assert "bits are 2" in page
    assert "Chapter two" in page
    assert "mathjax.js" in page
    assert "require" not in page.replace("required", "")
    assert 'href="two.ipynb"' in page and (root / "out/html/book/two.ipynb").is_file()
    assert 'href="https://colab.research.google.com/github/someone/quantcliff/blob/notebooks/book/two.ipynb"' in page
    assert 'href="https://mybinder.org/v2/gh/someone/quantcliff/notebooks?urlpath=lab/tree/book/two.ipynb"' in page
    assert "colab" not in (root / "out/html/book/intro.html").read_text(), "nothing runs there"
    assert not list(Path("out").glob("**/*.running.ipynb"))
    assert sorted(path.name for path in Path("out").iterdir()) == ["html", "notebooks", "source"]
    notebook = nbformat.read("out/notebooks/two.ipynb", as_version=4)
    injected = [cell.source for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert injected == ["# Parameters\nbits = 2\n"]


@pytest.mark.parametrize("name", ["out{1}.ipynb", "{bits}.ipynb", "{}.ipynb"])
def test_braces_in_the_name_of_a_notebook_mean_themselves(root, name):
    chapter = Book.read().chapter("one")
    book.execute(chapter, {"bits": 2}, Path(name), root)
    assert nbformat.read(name, as_version=4).cells
    assert not list(Path().glob("*.running.ipynb"))


def test_only_what_changed_is_executed_again(root, unrendered, tmp_path):
    build()
    assert runs(root) == "one two"
    build()
    assert runs(root) == "one two"
    with (root / "book" / "two.md").open("a") as file:
        file.write("\nMore.\n")
    build()
    assert runs(root) == "one two two"
    build(bits=3)
    assert runs(root) == "one two two one two"
    (tmp_path / "library" / "code.py").write_text("x = 2\n")
    build(bits=3)
    assert runs(root) == "one two two one two one two"


def test_the_start_page_sums_up_and_runs_last(root, unrendered):
    (root / "book" / "intro.md").write_text(HEAD + CHAPTER.replace("NAME", "intro"))
    build()
    assert runs(root) == "one two intro"


def test_changed_model_folder_is_noticed(root, unrendered):
    model = root / "model"
    model.mkdir()
    (model / "weights").write_text("1")
    (root / "book" / "one.md").write_text((root / "book" / "one.md").read_text().replace('"runs/x"', '"r"\nmodel = ""'))
    build(model="model")
    (model / "weights").write_text("1234")
    build(model="model")
    assert runs(root) == "one two one"


def test_failing_cell_stops_the_build_and_is_named(root, unrendered):
    two = root / "book" / "two.md"
    whole = two.read_text()
    two.write_text(whole.replace('print("bits are", bits)', "# divide\n1 / 0"))
    (root / "out" / "html").mkdir(parents=True)
    (root / "out" / "html" / "index.html").write_text("the last site")
    with pytest.raises(BuildError, match=r"chapter two stopped in code cell 3.*# divide.*ZeroDivisionError"):
        build()
    assert (root / "out/html/index.html").read_text() == "the last site"
    assert not Path("out/notebooks/two.ipynb").exists()
    assert Path("out/notebooks/two.failed.ipynb").exists()
    two.write_text(whole)
    build()
    assert runs(root) == "one two two"
    assert not Path("out/notebooks/two.failed.ipynb").exists()


def test_input_refused_by_a_chapter_is_one_sentence(root, unrendered):
    one = root / "book" / "one.md"
    refusal = "from quantcliff.errors import InputError\nraise InputError('no such bits')"
    one.write_text(one.read_text().replace('print("bits are", bits)', refusal))
    with pytest.raises(InputError, match=r"^chapter one: no such bits$"):
        build()


WAITS = """\
# Chapter NAME

```{code-cell} ipython3
:tags: [parameters]

run = "runs/x"
```

```{code-cell} ipython3
import time
from pathlib import Path

begun = time.monotonic()
while not Path("there").exists():
    assert time.monotonic() < begun + 120, "the page beside this one did not run"
    time.sleep(0.1)
```
"""

LEAVES_NOTHING = """\
# Chapter NAME

```{code-cell} ipython3
from pathlib import Path

Path("there").touch()
```
"""


def test_a_page_that_leaves_nothing_runs_beside_the_next(root, unrendered):
    (root / "book" / "one.md").write_text(HEAD + LEAVES_NOTHING)
    (root / "book" / "two.md").write_text(HEAD + WAITS)
    book.build(Book.read(root), {}, Path("out"))  # from elsewhere than papermill works
    assert {file.stem for file in Path("out/notebooks").iterdir()} == {"one", "two"}
    assert Path.cwd() == root


@pytest.mark.parametrize("others", [False, True])
def test_a_page_beside_that_fails_stops_the_build(root, unrendered, others):
    wrong = HEAD + LEAVES_NOTHING.replace('Path("there").touch()', "1 / 0")
    (root / "book" / ("one.md" if others else "two.md")).write_text(wrong)
    name = "one" if others else "two"
    with pytest.raises(BuildError, match=rf"chapter {name} stopped in code cell 1.*ZeroDivisionError"):
        build()
    assert Path(f"out/notebooks/{name}.failed.ipynb").exists()


def test_killed_build_loses_no_finished_chapter(root, unrendered):
    two = root / "book" / "two.md"
    wait = "import time\nwhile not Path('go').exists():\n    time.sleep(0.1)\n"
    two.write_text(two.read_text().replace('print("bits are", bits)', wait))
    imports = "from pathlib import Path; from quantcliff import cli; from quantcliff.book import site; "
    code = f"{imports}site.PACKAGE = Path('../library'); cli.app()"
    command = [sys.executable, "-c", code, "build", "--out", "out"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + 120
    while runs(root) != "one two":
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in Path("out/notebooks").glob("*.ipynb") if "." not in path.stem] == ["one.ipynb"]
    (root / "go").touch()
    build()
    assert runs(root) == "one two two"


def test_warning_fails_the_rendering_and_leaves_the_last_site(root):
    two = root / "book" / "two.md"
    two.write_text(two.read_text() + "\nSee [this](nowhere.md).\n")
    (root / "out" / "html").mkdir(parents=True)
    (root / "out" / "html" / "index.html").write_text("the last site")
    with pytest.raises(BuildError, match=r"(?s)two.*nowhere.*without warnings"):
        build()
    assert (root / "out/html/index.html").read_text() == "the last site"


def test_plain_jupyter_book_builds_the_same_folder(root):
    code = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", code, "build", ".", "-W", "--keep-going", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (root / "_build/html/book/one.html").read_text()
    assert "bits are 4" in page
    assert "colab" not in page and "mybinder" not in page and 'href="one.ipynb"' not in page
    assert (root / "_build/html/_static/mathjax.js").stat().st_size > 1_000_000


def test_tables_of_a_built_book_are_kept_and_summed_up(root):
    rows = [
        ("full", 32, "group", "all", "accuracy", 0.97), ("gptq", 4, "group", "all", "accuracy", 0.851),
        ("rtn", 2, "group", "all", "accuracy", 0.02), ("rtn", 2, "group", "known", "accuracy", 0.5),
        ("rtn", 2, "group", "all", "top5", 0.6), ("rtn", 2, "band", "all", "accuracy", 0.7),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "bits", "split", "part", "measure", "estimate"])
    one = root / "book" / "one.md"
    one.rename(root / "book" / "macro.md")
    (root / "_toc.yml").write_text((root / "_toc.yml").read_text().replace("book/one", "book/macro"))
    (root / "runs" / "x").mkdir(parents=True)
    table.to_parquet(root / "runs" / "x" / "macro.parquet")
    assert book.summary(Path("out")) == ""
    book.keep_table(Book.read().chapter("macro"), {}, root, Path("out/tables"))
    lines = [line.split() for line in book.summary(Path("out")).splitlines()]
    assert lines == [["bits", "32", "4", "2"], ["method"], ["full", "97.0%"], ["gptq", "85.1%"], ["rtn", "2.0%"]]


def test_a_page_about_one_model_is_left_out_of_the_book_of_another(root, unrendered):
    two = root / "book" / "two.md"
    two.write_text(two.read_text().replace("---\n", "---\nabout: atlas\n", 1))
    build(model="somewhere/mine")
    assert runs(root) == "one"
    assert "book/two" not in Path("out/source/_toc.yml").read_text()
    assert not Path("out/source/book/two.ipynb").exists()
    build()
    assert "two" in runs(root)
    assert "book/two" in Path("out/source/_toc.yml").read_text()


def test_the_start_page_links_to_editions_that_are_there(root, unrendered):
    build()
    assert "editions: ''" in Path("out/source/_config.yml").read_text()
    for name in ("mine", "out"):
        (root / name / "html").mkdir(parents=True, exist_ok=True)
        (root / name / "html" / "index.html").write_text("<html></html>")
    build()
    text = Path("out/source/_config.yml").read_text()
    assert '<a href="../../mine/html/index.html">mine</a>' in text and ">out</a>" not in text
    build(model="somewhere/mine")
    assert "editions: ''" in Path("out/source/_config.yml").read_text()
