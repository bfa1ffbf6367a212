"""What is written is whole or not there, commands wait for each other, and a refusal of the system is one sentence.

Disks are really full and really read-only where this machine may mount one; a limit on the size of files and a file in
place of a folder work everywhere.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tiny_book import write as write_book

from quantcliff import book, cli, disk, tables
from quantcliff.errors import InputError
from quantcliff.quantizers import Scheme, export

HOLD = """
import sys
from quantcliff import disk

with disk.working_in(disk.Path(sys.argv[1])):
    print("in", flush=True)
    input()
"""

ROWS = pd.DataFrame({"value": torch.arange(400_000).double().sin().numpy()})


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this machine mounts no disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def writes(folder: Path) -> list:
    """Ways to write more than 1 MB into a folder."""
    return [
        lambda: tables.write(ROWS, folder / "new.parquet"),
        lambda: disk.write(folder / "new.txt", "x" * 3_000_000),
        lambda: whole(folder / "new.safetensors", lambda part: save_file({"a": torch.zeros(800_000)}, part)),
        lambda: whole(folder / "new", lambda part: (part.mkdir(), (part / "a").write_bytes(b"x" * 3_000_000))),
    ]


def whole(path: Path, fill) -> None:
    with disk.whole(path) as part:
        fill(part)


@pytest.mark.parametrize("way", range(4))
def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(small: Path, way: int) -> None:
    kept = tables.write(ROWS[:100], small / "old.parquet")
    with pytest.raises(InputError, match=rf"^the disk is full: {small}/new.* free some space and run the same"):
        writes(small)[way]()
    assert [path.name for path in small.iterdir()] == ["old.parquet"]
    pd.testing.assert_frame_equal(tables.read(kept), ROWS[:100])


@pytest.mark.parametrize("way", range(4))
def test_a_read_only_disk_is_one_sentence(small: Path, way: int) -> None:
    tables.write(ROWS[:100], small / "old.parquet")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(InputError, match=rf"{small}.*is read-only; give a folder that can be written to$"):
        writes(small)[way]()
    with pytest.raises(InputError, match=r"is read-only"), disk.working_in(small / "run"):
        pass
    with pytest.raises(InputError, match=r"is read-only"), disk.making(small / "out"):
        pass
    assert len(tables.read(small / "old.parquet")) == 100


@pytest.mark.parametrize("way", range(4))
def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path: Path, way: int) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.*cannot be made: a file stands where a folder is needed"):
        writes(tmp_path / "file")[way]()
    with pytest.raises(InputError, match="a file stands"), disk.working_in(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize("way", range(4))
def test_a_limit_on_the_size_of_files_is_one_sentence(tmp_path: Path, way: int) -> None:
    kept = tables.write(ROWS[:100], tmp_path / "old.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(InputError, match="this system allows no file of its size; what was finished is whole"):
            writes(tmp_path)[way]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["old.parquet"]
    assert len(tables.read(kept)) == 100


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        whole(tmp_path / "new", lambda part: 1 / 0)
    with pytest.raises(FileNotFoundError):
        whole(tmp_path / "new", lambda part: (tmp_path / "none").read_text())
    assert disk.refusal(ValueError("12 of 28 layers")) is None
    assert disk.refusal("[Errno 2] No such file or directory: '/a'") is None


def test_a_refusal_is_found_behind_other_errors_and_in_what_they_say() -> None:
    behind = RuntimeError("could not save")
    behind.__cause__ = OSError(28, "No space left on device", "/a/b")
    assert disk.refusal(behind).startswith("the disk is full: /a/b could not be written")
    told = disk.refusal("[Errno 30] Failed to open local file '/a/b.parquet'. Detail: [errno 30] Read-only file system")
    assert told.startswith("/a/b.parquet cannot be written: its disk is read-only")


def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = [f".table.parquet.{disk.HOST}-{gone.pid}.part", f"resid_post.{gone.pid}.part", ".model.part"]
    alive = [f".table.parquet.{disk.HOST}-{os.getpid()}.part", f".table.parquet.elsewhere-{gone.pid}.part"]
    (tmp_path / dead[0]).mkdir()
    for name in (f"{dead[0]}/file", dead[1], dead[2], *alive):
        (tmp_path / name).touch()
    with disk.working_in(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {*alive, ".model.part", ".lock"}
    (tmp_path / dead[1]).touch()
    disk.write(tmp_path / "resid_post", "new")
    assert (tmp_path / dead[1]).exists(), "only its own leftovers are a writer's business"


def test_a_second_command_waits_says_so_and_goes_on(tmp_path: Path) -> None:
    hold = [sys.executable, "-c", HOLD, tmp_path]
    first = subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "in\n"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    second = subprocess.Popen(hold, text=True, **pipes)
    assert f"another command is at work on {tmp_path}; waiting for it" in second.stderr.readline()
    time.sleep(0.2)
    assert second.poll() is None
    first.kill()
    first.wait()
    assert second.stdout.readline() == "in\n"
    second.communicate("\n")
    assert second.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_lock_can_be_taken_twice_in_one_process(tmp_path: Path) -> None:
    with disk.making(tmp_path / "out"):
        with disk.making(tmp_path / "out"):
            pass
        assert (tmp_path / ".out.lock").exists()
    assert list(tmp_path.iterdir()) == []


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """What a command that must end with 2 says last; more than its own sentences would be a traceback."""
    monkeypatch.setattr(sys, "argv", ["quantcliff", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and "Traceback" not in told
    return told.strip().splitlines()[-1]


def test_quantize_on_a_full_disk_says_so_and_leaves_nothing(small: Path, monkeypatch, capsys) -> None:
    told = said(monkeypatch, capsys, "quantize", "atlas", small / "out", "--method", "rtn", "--bits", "8")
    assert told.startswith(f"quantcliff: the disk is full: {small}/out could not be written")
    assert list(small.iterdir()) == []


def test_diagnose_on_a_full_disk_keeps_the_tables_it_has_finished(small: Path, tmp_path, monkeypatch, capsys) -> None:
    export("atlas", Scheme("rtn", 2, 128), (), tmp_path / "quantized")
    line = ["diagnose", "atlas", tmp_path / "quantized", "--n-facts", "40", "--out", small / "run"]
    told = said(monkeypatch, capsys, *line)
    assert told.startswith("quantcliff: the disk is full: ") and str(small / "run") in told
    kept = list(small.rglob("*.parquet"))
    assert kept and all(len(tables.read(file)) for file in kept)
    assert not list(small.rglob("*.part")) and not list(small.rglob("*.lock"))


@pytest.mark.parametrize("line", [
    ["quantize", "MODEL", "OUT", "--group-size", "16", "--calibration", "self:2x16"],
    ["fetch", "smollm2"],
])  # fmt: skip
def test_a_cache_that_cannot_be_written_is_one_sentence(tiny_llama: Path, tmp_path, monkeypatch, capsys, line) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path / "file" / "cache"))
    places = {"MODEL": tiny_llama, "OUT": tmp_path / "out"}
    told = said(monkeypatch, capsys, *(places.get(part, part) for part in line))
    assert "file/cache" in told and "a file stands where a folder is needed" in told


def test_a_full_disk_under_a_chapter_is_one_sentence_too(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fills = f"# Chapter NAME\n\n```{{code-cell}} ipython3\nopen('{small}/a', 'w').write('x' * 3_000_000);\n```\n"
    monkeypatch.chdir(write_book(small.parent / "book", one=fills))
    with pytest.raises(InputError, match=r"^chapter one: the disk is full: .*free some space and run the same command"):
        book.execute(book.Book.read().chapter("one"), {}, small.parent / "one.ipynb", Path())
