"""The wheel, made from what git tracks: it carries the book, and works in an empty folder without a checkout.

`nox -s package` does it the long way: `python -m build`, `twine check`, an environment of its own.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
LIMIT = 20
"""Megabytes a wheel may weigh: what is in it must be worth its download; the package index takes 100."""


def tracked() -> list[str]:
    """Files of the checkout that git tracks, or would with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel's file, built in a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        if not name.startswith(("tests/", "benchmarks/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = out.glob("*.whl")
    return file


def test_a_wheel_carries_the_whole_book_and_nothing_that_is_not_tracked(wheel):
    with zipfile.ZipFile(wheel) as held:
        inside = {name: held.read(name) for name in held.namelist() if "dist-info/" not in name}
        licences = [name for name in held.namelist() if "licenses/" in name]
    assert sorted(Path(name).name for name in licences) == ["LICENSE", "LICENSE-TEXT"]
    pages = [name for name in tracked() if name.startswith(("book/", "_toc.yml", "_config.yml"))]
    expected = {f"quantcliff/book/pages/{name}": ROOT / name for name in pages}
    expected |= {name.removeprefix("src/"): ROOT / name for name in tracked() if name.startswith("src/")}
    assert sorted(inside) == sorted(expected)
    assert [name for name, file in expected.items() if inside[name] != file.read_bytes()] == []
    assert wheel.stat().st_size < LIMIT * 1e6


def test_a_wheel_runs_a_chapter_in_an_empty_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as held:
        held.extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "JUPYTER_PLATFORM_DIRS": "1"}
    command = [sys.executable, "-m", "quantcliff.cli", "run", "appendix_proof"]
    done = subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["appendix_proof.ipynb"]
    ran = nbformat.read(tmp_path / "empty" / "appendix_proof.ipynb", as_version=4)
    assert all(cell.execution_count for cell in ran.cells if cell.cell_type == "code" and cell.source)
