"""Commands that are killed in the middle and started again lose nothing; `make soak` does it at random moments."""

import hashlib
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from tiny import TEXT

from quantcliff.quantizers import Scheme, export


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("soak")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text to ask about, and to calibrate on."""
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(" ".join(TEXT[turn:] + TEXT[:turn]) for turn in range(6)), encoding="utf-8")
    return file


def hunted(soak: ModuleType, command, tmp_path: Path, begun: str) -> None:
    """Kill it as soon as a file like `begun` is there, start it again, and hold all against an undisturbed run."""
    calm, place = tmp_path / "calm", tmp_path / "hunted"
    calm.mkdir()
    place.mkdir()
    soak.undisturbed(command, calm)
    killed = soak.hunted(command, place, [lambda: bool(list(place.rglob(begun)))])
    assert killed == (1, []), "it was killed once, and what was finished is not made again"
    assert soak.left_over(place) == []
    assert command.result(place) == command.result(calm)


def test_quantize_killed_while_it_writes(soak, tiny_llama: Path, text: Path, tmp_path: Path) -> None:
    line = ["quantize", str(tiny_llama), "out", "--bits", "2", "--group-size", "16", "--calibration", str(text)]
    hunted(soak, soak.Command(line, soak.files("out")), tmp_path, ".out.*.part")


def test_diagnose_killed_between_two_tables(soak, tmp_path: Path) -> None:
    export("atlas", Scheme("rtn", 2, 128), (), tmp_path / "quantized")
    line = ["diagnose", "atlas", str(tmp_path / "quantized"), "--n-facts", "20", "--out", "run"]
    command = soak.Command(line, soak.tables("run"), good=(0, 10, 11, 12))
    hunted(soak, command, tmp_path, "scores/*.parquet")


def test_heal_killed_between_two_layers(soak, tiny_llama: Path, text: Path, tmp_path: Path) -> None:
    export(tiny_llama, Scheme("rtn", 2, 16), (), tmp_path / "quantized")
    line = ["heal", str(tiny_llama), str(tmp_path / "quantized"), "out", "--calibration", str(text)]
    command = soak.Command([*line, "--tokens", "8", "--epochs", "1"], soak.files("out"))
    hunted(soak, command, tmp_path, "layer-000.safetensors")


def test_the_soak_notices_what_is_lost_made_again_or_left_over(soak, tmp_path: Path) -> None:
    table = tmp_path / "run" / "stage" / f"a-{'0' * 16}.parquet"
    table.parent.mkdir(parents=True)
    pd.DataFrame({"a": [1]}).to_parquet(table)
    before = soak.finished(tmp_path)
    assert list(before) == [f"run/stage/{table.name}"]
    pd.DataFrame({"a": [2]}).to_parquet(table)
    assert soak._changed(before, soak.finished(tmp_path)) == list(before)
    (table.parent / ".b.parquet.host-1.part").touch()
    assert soak.left_over(tmp_path) == ["run/stage/.b.parquet.host-1.part"]


def test_a_start_that_ends_by_itself_is_the_last(soak, tmp_path: Path) -> None:
    """It may refuse to make once more what is there."""
    command = soak.Command(["quantize", "atlas", "out"], soak.files("out"))
    starts: list[Path] = []

    def ended(command, place: Path) -> subprocess.Popen:
        starts.append(place)
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        return process

    soak.start, before = ended, soak.start
    try:
        assert soak.hunted(command, tmp_path, [0.0, 0.0]) == (0, [])
    finally:
        soak.start = before
    assert len(starts) == 1


def test_what_is_whole_when_it_is_killed_is_not_started_again(soak, tmp_path: Path, monkeypatch) -> None:
    """`quantize` would refuse to write into the folder that it has finished."""
    write = "import pathlib, time; pathlib.Path('out').mkdir(); pathlib.Path('out/a').write_text('a'); time.sleep(60)"
    starts: list[Path] = []

    def finishing(command, place: Path) -> subprocess.Popen:
        starts.append(place)
        return subprocess.Popen([sys.executable, "-c", write], cwd=place, start_new_session=True)

    monkeypatch.setattr(soak, "start", finishing)
    command = soak.Command(["quantize", "atlas", "out"], soak.files("out"))
    moments = [lambda: (tmp_path / "out" / "a").is_file() and (tmp_path / "out" / "a").read_text() == "a"] * 2
    whole = {"out/a": hashlib.sha256(b"a").hexdigest()}
    assert soak.hunted(command, tmp_path, moments, whole) == (1, [])
    assert len(starts) == 1
