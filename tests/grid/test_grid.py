"""A grid of runs: its cells, its workflow, and the page that compares them."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from quantcliff import grid
from quantcliff.errors import BuildError, InputError
from quantcliff.grid import workflow
from quantcliff.grid.compare import side_by_side

needs_snakemake = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed: pip install 'quantcliff[grid]'"
)

FAKE = """\
import json, pathlib, sys, time
command, model, place, *rest = sys.argv[1:]
given = dict(zip(rest[::2], rest[1::2]))
with open("count", "a") as handle:
    handle.write(" ".join([command, *sys.argv[3:]]) + chr(10))
if command == "quantize":
    pathlib.Path(place).mkdir(parents=True)
    (pathlib.Path(place) / "config.json").write_text(json.dumps(given))
    sys.exit(0)
if given["--seed"] == "13":
    sys.exit("quantcliff: no luck")
while not pathlib.Path("go").exists() and given["--seed"] == "1":
    time.sleep(0.05)
quantized = json.loads((pathlib.Path(place) / "config.json").read_text())
bits, out = int(quantized["--bits"]), pathlib.Path(given["--out"])
kept = {"estimate": bits / 8, "low": bits / 8 - 0.1, "high": bits / 8 + 0.1, "n": 20}
question = {"question": "forms", "value": 0.5, "low": 0.4, "high": 0.6, "n": 20, "answer": "yes"}
mute = {"question": "responds", "value": None, "low": None, "high": None, "n": 0, "answer": "not asked"}
content = {"mode": "intact" if bits > 3 else "mixed", "exit_code": 0 if bits > 3 else 12, "accuracy_kept": kept}
out.mkdir(parents=True, exist_ok=True)
(out / "verdict.json").write_text(json.dumps(content | {"questions": [question, mute]}))
sys.exit(content["exit_code"])
"""
"""A command line that stands in for ours: it notes what it is called with, and knows what comes out."""


def write(tmp_path: Path, **changed: object) -> Path:
    content = {"models": ["atlas"], "methods": ["gptq", "rtn"], "bits": [4, 2], "seeds": [0, 1], "n_facts": 20,
               "out": str(tmp_path / "out")}  # fmt: skip
    file = tmp_path / "grid.yml"
    file.write_text(yaml.safe_dump({name: v for name, v in (content | changed).items() if v is not None}))
    return file


@pytest.fixture
def fake(tmp_path: Path) -> str:
    (tmp_path / "fake.py").write_text(FAKE)
    return f"{sys.executable} {tmp_path / 'fake.py'}"


def test_every_combination_is_a_cell_and_seeds_share_a_checkpoint(tmp_path: Path) -> None:
    found = grid.Grid.read(write(tmp_path, text=str(Path(__file__)), group_size=64))
    cells = list(found.cells())
    assert len({cell.name for cell in cells}) == 8 and len({cell.checkpoint for cell in cells}) == 4
    out = grid.write(found)
    content = yaml.safe_load((out / "cells.yml").read_text())
    assert content["cells"]["atlas-rtn-2bit-seed1"] == {
        "model": "atlas", "checkpoint": "atlas-rtn-2bit",
        "options": ["--text", str(Path(__file__)), "--n-facts", "20", "--seed", "1", "--device", "auto"],
    }  # fmt: skip
    assert content["checkpoints"]["atlas-rtn-2bit"]["options"] == [
        "--method", "rtn", "--bits", "2", "--group-size", "64",
    ]  # fmt: skip
    assert set(content["checkpoints"]) == {cell.checkpoint for cell in cells}


@pytest.mark.parametrize(("changed", "message"), [
    ({"model": ["atlas"]}, "has no use for 'model'; it may hold models, methods"),
    ({"models": None}, "names no models"),
    ({"models": ["nope"]}, "nope is not a folder"),
    ({"bits": [4, "2"]}, "bits is .*give whole numbers"),
    ({"n_facts": [1, 2]}, "n_facts is a list; give one value"),
    ({"n_facts": True}, "n_facts is True; give whole numbers"),
    ({"n_facts": 0}, "give at least 1 of each"),
    ({"methods": ["gguf"]}, "choose one of gptq, awq, rtn"),
    ({"bits": [1]}, "1 bits"),
    ({"group_size": 48}, "group size"),
    ({"text": "nope.txt"}, "no text file nope.txt"),
    ({"dtype": "int3"}, "unknown dtype 'int3'"),
])  # fmt: skip
def test_what_cannot_be_run_is_said_before_anything_starts(tmp_path: Path, changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid.Grid.read(write(tmp_path, **changed))
    assert not (tmp_path / "out").exists()


def test_models_of_one_name_would_share_their_cells(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "atlas").symlink_to(tiny_llama)
    with pytest.raises(InputError, match="two models are called atlas"):
        grid.Grid.read(write(tmp_path, models=["atlas", str(tmp_path / "atlas")], group_size=32))


def test_without_snakemake_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'quantcliff\[grid\]'"):
        grid.start(grid.Grid.read(write(tmp_path)))


@needs_snakemake
def test_a_killed_grid_goes_on_and_does_only_what_is_left(tmp_path: Path, fake: str) -> None:
    file = write(tmp_path, command=fake)
    found, out = grid.Grid.read(file), tmp_path / "out"
    code = f"from quantcliff import grid; grid.start(grid.Grid.read(__import__('pathlib').Path({str(file)!r})), '8')"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline, running = time.monotonic() + 180, out / ".snakemake" / "incomplete"

    def waits() -> bool:
        """Until the first seed's cells are done, and noted as such: Snakemake makes again what it has not noted."""
        return len(list(out.glob("cells/*-seed0/verdict.json"))) < 4 or len(list(running.glob("*"))) > 4

    try:
        while waits():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = (out / "count").read_text().splitlines()
    assert not list(out.glob("cells/*-seed1/verdict.json"))
    (out / "go").touch()
    grid.start(found, "4")
    again = (out / "count").read_text().splitlines()[len(before) :]
    assert len(again) == 4 and all("diagnose" in line and "--seed 1" in line for line in again)
    grid.start(found, "4")
    assert len((out / "count").read_text().splitlines()) == len(before) + 4, "all is done"


@needs_snakemake
def test_a_cell_that_fails_is_named_with_what_it_said_and_keeps_no_other_back(tmp_path: Path, fake: str) -> None:
    found = grid.Grid.read(write(tmp_path, command=fake, seeds=[0, 13], bits=4))
    with pytest.raises(BuildError, match=r"(?s)atlas-rtn-4bit-seed13: quantcliff: no luck.*2 of 4 cells are not done"):
        grid.start(found, "2")
    table = grid.compare(found)
    assert set(table["cell"]) == {"atlas-gptq-4bit-seed0", "atlas-rtn-4bit-seed0"}
    text = grid.page(found, table).read_text()
    assert "atlas-rtn-4bit-seed13: not done" in text and "2 of 4 runs side by side" in text


def test_the_page_holds_every_run(tmp_path: Path) -> None:
    found, out = grid.Grid.read(write(tmp_path)), tmp_path / "out"
    for cell in found.cells():
        kept = {"estimate": cell.bits / 8, "low": 0.1, "high": 0.9, "n": 20}
        question = {"question": "forms", "value": 0.5, "low": 0.4, "high": 0.6, "n": 20, "answer": "yes"}
        mute = {"question": "responds", "value": None, "low": None, "high": None, "n": 0, "answer": "not asked"}
        content = {"mode": "intact" if cell.bits > 3 else "mixed", "exit_code": 0, "accuracy_kept": kept}
        (out / "cells" / cell.name).mkdir(parents=True)
        file = out / "cells" / cell.name / "verdict.json"
        file.write_text(json.dumps(content | {"questions": [question, mute]}))
    table = grid.compare(found)
    assert table.groupby("measure").size().to_dict() == {"kept": 8, "forms": 8}
    wide = side_by_side(table)
    assert list(wide) == ["model", "method", "seed", "4 bits", "2 bits"] and len(wide) == 4
    assert wide["2 bits"].unique().tolist() == ["25% (10% to 90%), mixed"]
    text = grid.page(found, table).read_text()
    assert "8 of 8 runs side by side" in text and 'href="cells/atlas-gptq-2bit-seed1/verdict.html"' in text
    assert "atlas, 2 bits, gptq, seed 1: 25%" in text and "forms" in text
    assert "http" not in text.replace("http://www.w3.org", "").split("<script>")[0]


def test_the_options_are_those_the_command_line_has(tmp_path: Path) -> None:
    from quantcliff import cli

    found = grid.Grid.read(write(tmp_path, facts="atlas", calibration="atlas", dtype="float32"))
    cell = next(found.cells())
    for name, given in (("quantize", found.quantize(cell)), ("diagnose", found.diagnose(cell))):
        known = {option for parameter in cli.app.commands[name].params for option in parameter.opts}
        assert set(given[::2]) <= known
