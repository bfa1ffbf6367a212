"""What is noted while a chapter runs: how long its imports take, what it makes anew, on which machine, with what.

It goes into the executed notebook's metadata, as `quantcliff: ran:`, and from there to the execution page.
"""

import ast
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil
from nbformat import NotebookNode, v4

FIRST, LAST = "quantcliff-imports", "quantcliff-clock"
"""Tags of the cells that `timed` puts in and `noted` takes out."""

CLOCK = "import os\n\nprint(sum(os.times()[:4]))"
"""Processor seconds of a kernel and of what it started."""

MADE = {"tables": "*/**/*.parquet", "models": "**/*.safetensors"}
"""What counts as made: files below a run folder by kind. Tables that lie in the run folder itself are put together anew
by every page, out of kept ones, so they do not count."""


def timed(notebook: NotebookNode) -> None:
    """Put a cell in front that does all imports of a notebook, which times them apart, and one at the end that says
    what the kernel took."""
    trees = [_parsed(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    lines = dict.fromkeys(
        ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
    )
    first, last = (v4.new_code_cell(source) for source in ("\n".join(lines), CLOCK))
    for cell, tag in ((first, FIRST), (last, LAST)):
        cell["id"], cell.metadata["tags"] = tag, [tag]
    notebook.cells = [first, *notebook.cells, last]


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # a line for IPython alone
        return ast.Module([], [])


@contextmanager
def watching(run: Path | None) -> Iterator[dict[str, Any]]:
    """What is made inside the block, filled in when it ends.

    Args:
        run: the folder of results, in which nobody else makes anything; None for a page that makes nothing.

    Yields:
        tables, models: files made anew (`MADE`).
    """
    seen: dict[str, Any] = {}
    start = time.time()
    yield seen
    for kind, pattern in MADE.items():
        files = run.glob(pattern) if run else []
        seen[kind] = sum(not file.is_symlink() and file.stat().st_mtime >= start for file in files)


def noted(notebook: NotebookNode, seen: dict[str, Any]) -> NotebookNode:
    """The executed notebook without the cells that `timed` put in, and with the record of its run in its metadata."""
    *_, last = notebook.cells
    imports = _seconds(next(cell for cell in notebook.cells if _is(cell, FIRST)))
    notebook.cells = [cell for cell in notebook.cells if not _is(cell, FIRST) and not _is(cell, LAST)]
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.execution_count:
            cell.execution_count -= 1
    took = {"imports": round(imports, 1), "processor": round(float(last.outputs[0].text), 1)}
    ran = {**seen, **took, "machine": machine(), "versions": versions()}
    notebook.metadata.setdefault("quantcliff", {})["ran"] = ran
    return notebook


def _is(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def _seconds(cell: NotebookNode) -> float:
    return float(cell.metadata.get("papermill", {}).get("duration") or 0.0)


def machine() -> dict[str, str]:
    """This machine in words: system, processor, cores, memory, and the GPU where PyTorch sees one."""
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    found = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": _processor(),
        "cores": f"{cores}" + (f", {threads} used by a computation at once" if threads else ""),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
    }
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found | {"GPU": gpu}


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", cpus.read_text(encoding="utf-8")) if cpus.is_file() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Version of Python, of quantcliff, and of every package that it requires and that is here."""
    found = {"Python": platform.python_version(), "quantcliff": version("quantcliff")}
    for line in requires("quantcliff") or []:
        if "extra ==" in line:
            continue
        name = re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
