"""CONTRIBUTING.md leads to a measure and a chapter: its files are written and its commands run, in a copy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_package import tracked

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>\w+)\n(?P<body>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.\w+)`[^`]*$")
"""The file's name, the last code words of the paragraph before it."""


def steps(text: str) -> list[tuple[str, str]]:
    """(file, content) for each file of the text and ("", commands) for each block of commands, in order."""
    found, end = [], 0
    for block in FENCE.finditer(text):
        before, end = text[end : block.start()], block.end()
        name = NAMED.search(before.strip())
        assert (block["language"] == "sh") == (name is None), f"which file is the block after {before[-80:]!r}?"
        found.append((name[1] if name else "", block["body"]))
    return found


@pytest.fixture
def copy(tmp_path) -> Path:
    for name in tracked():
        if not name.startswith("benchmarks/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_example_works_word_by_word(copy):
    environment = os.environ | {"PYTHONPATH": "src", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTEST_XDIST_WORKER_COUNT", None)
    found = steps((ROOT / "CONTRIBUTING.md").read_text())
    assert [bool(name) for name, _ in found] == [True, True, False, True, True, False]
    for name, body in found:
        if name:
            (copy / name).write_text(body)
        else:
            done = subprocess.run(
                ["bash", "-ec", body], cwd=copy, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{body}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    ran = nbformat.read(copy / "direction.ipynb", as_version=4)
    said = [out.data["text/markdown"] for cell in ran.cells for out in cell.get("outputs", []) if "data" in out
            and "text/markdown" in out.data]  # fmt: skip
    assert said[0].startswith("After the last layer 2 bits leave a cosine of 0.")
    assert said[-1].startswith("Claims of this page that hold here: ")
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *(name for name, _ in found if name.endswith(".py"))],
        cwd=copy, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ruff.returncode == 0, ruff.stdout
