"""Threads wait asleep on a busy machine, and only there, and only where nobody has decided otherwise."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantcliff import cli, waiting

CHOSEN = {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture(autouse=True)
def _before_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")


@pytest.mark.parametrize(("others", "environ"), [(0.0, {}), (0.4, {}), (0.5, CHOSEN), (3.0, CHOSEN), (math.nan, {})])
def test_the_policy_follows_the_machine(others, environ):
    found: dict[str, str] = {}
    assert waiting.choose(found, lambda: others) == (found == CHOSEN)
    assert found == environ


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_has_set_stays(name):
    found = {name: "0"}
    assert not waiting.choose(found, lambda: 9.0)
    assert found == {name: "0"}


def test_after_torch_nothing_is_set(monkeypatch):
    found: dict[str, str] = {}
    monkeypatch.setitem(sys.modules, "torch", object())
    assert not waiting.choose(found, lambda: 9.0)
    assert not found


def test_others_are_counted_without_this_process(monkeypatch, tmp_path):
    monkeypatch.setattr(waiting, "LOAD", tmp_path / "loadavg")
    (tmp_path / "loadavg").write_text("9.00 9.00 9.00 3/145 21273\n")
    assert waiting.others() == 2, "the averages, which lag behind, do not count"
    (tmp_path / "loadavg").write_text("nonsense\n")
    assert math.isnan(waiting.others())
    (tmp_path / "loadavg").unlink()
    assert math.isnan(waiting.others()), "another system"


def test_the_command_line_chooses_before_anything_else(monkeypatch):
    calls = []
    monkeypatch.setattr(waiting, "choose", lambda: calls.append("choose"))
    monkeypatch.setattr(cli, "app", lambda: calls.append("app"))
    cli.main()
    assert calls == ["choose", "app"]


def test_the_command_line_starts_without_torch():
    code = "import sys, quantcliff.cli, quantcliff.waiting; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join([str(Path(waiting.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    assert (
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, check=False).returncode == 0
    )
