"""The execution page: made from executed notebooks, right for any model, and sentences where nothing is known."""

import json

import nbformat
import pytest
from tiny_book import CHAPTER, write

from quantcliff import disk
from quantcliff.book import Book, execution

HOSTS = {"one": "first machine", "two": "second machine"}


@pytest.fixture
def book(tmp_path):
    pages = {name: CHAPTER.replace("bits = 4", 'model = "atlas"\nfacts = "facts.csv"') for name in ("one", "two")}
    return Book.read(write(tmp_path / "root", **pages))


@pytest.fixture
def ran(book, tmp_path):
    """A function that notes a run of each page, and gives what `parts` is given."""

    def note(noted=True, **given):
        files = {}
        for name, host in HOSTS.items():
            notebook = book.chapter(name).notebook
            times = {
                "start_time": "2026-11-27T16:30:14+00:00",
                "end_time": "2026-11-27T16:31:54+00:00",
                "duration": 100.0,
            }
            notebook.metadata["papermill"] = {**times, "parameters": given}
            seen = {"imports": 6.4, "processor": 31.2, "tables": int(name == "one"), "models": 0}
            about = {"machine": {"processor": host}, "versions": {"torch": "2.0", "pandas": "3.0"}}
            notebook.metadata["quantcliff"] = {"ran": {**seen, **about}} if noted else {}
            files[book.chapter(name)] = tmp_path / f"{name}.ipynb"
            nbformat.write(notebook, files[book.chapter(name)])
        return files

    return note


def test_times_and_what_was_made(book, ran):
    told = execution.parts(book, ran())
    assert told["ran"] == (
        "2 pages ran between 2026-11-27 16:30 and 2026-11-27 16:31 UTC, in 3 minutes together, of which 13 seconds "
        "went into imports. Of those that keep results, 1 made nothing anew: what is shown there was measured by an "
        "earlier page or build, and read. A first build takes longer."
    )
    rows = told["ran_table"].splitlines()[2:]
    assert rows[0] == "| [Chapter one](one) | 27\u00a0Nov\u00a016:30 | 100 | 6 | 31 | 1 table |"
    assert rows[1].endswith("| nothing |")


def test_machines_that_differ_name_their_pages_and_versions_that_agree_stand_once(book, ran):
    told = execution.parts(book, ran())
    assert told["machines"].index("one:") < told["machines"].index("first") < told["machines"].index("two:")
    assert told["versions"].count("torch") == 1
    assert told["versions"].index("torch") < told["versions"].index("dropdown") < told["versions"].index("pandas")


def test_inputs_are_those_of_the_run(book, ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts.csv").write_text("x\n")
    (tmp_path / "mine").mkdir()
    told = execution.parts(book, ran(model="mine"))["inputs"]
    assert "| model | `mine` | no longer there |" in told and "`atlas`" not in told and "smollm2" not in told
    assert "| facts | `facts.csv` | `73cb3858a687a849` |" in told
    assert "| book and library | as installed | no commit |" in told
    own = execution.parts(book, ran(facts="atlas", calibration="self:64x256"))["inputs"]
    assert "| model | `atlas` | `d1082aae24445482` |" in own
    assert "| facts | `templates.csv` |" in own
    assert "| calibration | `self:64x256` | written by the model itself |" in own


def test_notebooks_of_before_and_books_that_do_not_run(book, ran):
    told = execution.parts(book, ran(noted=False))
    assert "not noted" in told["ran_table"] and told["machines"] == "This was not noted."
    assert execution.parts(book, {})["ran"] == execution.NONE


def test_shipped_tables_that_were_changed_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "PACKAGE", tmp_path)
    (tmp_path / "t.csv").write_text("x\n")
    made = {"command": "make it", "commit": "a" * 40, "date": "2026-11-27", "later": {"b" * 40: ["t"]}}
    whole = {"t": disk.sha256(tmp_path / "t.csv"), "gone": "0" * 64}
    (tmp_path / "made.json").write_text(json.dumps({**made, "files": whole}))
    told = execution._shipped(tmp_path / "made.json")
    assert "made by `make it` at aaaaaaaa, 2026-11-27; t again at bbbbbbbb:" in told
    assert "| `t` | `73cb3858a687a849` | yes |" in told and "| **no** |" in told


def test_all_tables_of_the_package_are_as_they_were_shipped():
    assert "**no**" not in "".join(map(execution._shipped, execution.PACKAGE.rglob("made.json")))
