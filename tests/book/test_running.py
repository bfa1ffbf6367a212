"""What is noted of a run: imports apart, what was made anew, machine and versions; and the notebook is as before."""

from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from tiny_book import write

from quantcliff.book import Book, execute, running

PAGE = """\
# Page

```{code-cell} ipython3
:tags: [parameters]

run = "runs/x"
```

```{code-cell} ipython3
import time
from pathlib import Path

slow = time.sleep(0.5)
folder = Path(run, "part")
folder.mkdir(parents=True, exist_ok=True)
for name in ("a.parquet", "b.parquet", "c.safetensors"):
    (folder / name).touch(exist_ok=not (folder / name).exists() or name == "a.parquet")
```

```{code-cell} ipython3
%time sum(range(10**7));
```
"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A page executed in a folder that holds one table of its already, older than the run."""
    root = write(tmp_path_factory.mktemp("ran") / "root", one=PAGE.replace('"b.parquet", ', ""))
    kept = root / "runs" / "x" / "part" / "b.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    execute(Book.read(root).chapter("one"), {}, root / "one.ipynb", root, "mark")
    return nbformat.read(root / "one.ipynb", as_version=4)


def test_the_run_is_noted(notebook):
    noted = notebook.metadata["quantcliff"]
    assert noted["made_from"] == "mark"
    ran = noted["ran"]
    assert (ran["tables"], ran["models"]) == (1, 1), "a.parquet and c.safetensors; b.parquet was there"
    slow = notebook.cells[2].metadata["papermill"]["duration"]
    assert slow >= 0.5 and 0 <= ran["imports"] < notebook.metadata["papermill"]["duration"] - slow
    assert 0.2 < ran["processor"] < 60, "the work of this kernel alone"
    assert ran["machine"].keys() == {"system", "processor", "cores", "memory", "GPU"} and all(ran["machine"].values())
    assert ran["versions"]["torch"].startswith("2.") and "pytest" not in ran["versions"]


def test_the_notebook_is_as_if_nothing_had_been_put_in(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert not any("quantcliff" in str(cell.metadata.get("tags")) for cell in notebook.cells)
    assert len(notebook.cells) == 4


def test_imports_are_gathered_once_and_from_the_top_level_alone():
    sources = ["import os\nfrom a import b", "import os", "def f():\n    import sys", "%magic", "if x:\n    import re"]
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    running.timed(notebook)
    assert notebook.cells[0].source == "import os\nfrom a import b"


def test_a_page_without_results_makes_none(tmp_path):
    with running.watching(None) as seen:
        (tmp_path / "x.parquet").touch()
    assert (seen["tables"], seen["models"]) == (0, 0)


def test_tables_put_together_in_the_run_folder_itself_do_not_count(tmp_path):
    with running.watching(Path(tmp_path)) as seen:
        (tmp_path / "macro.parquet").touch()
    assert seen["tables"] == 0
