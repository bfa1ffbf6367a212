"""Several variants at once give the tables that one at a time gives, and leave nothing behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from quantcliff.errors import InputError
from quantcliff.stages import logit_lens
from quantcliff.study import Study, together

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("allowed", "labels", "count"), [(1, 9, 0), (2, 1, 0), (2, 2, 2), (4, 2, 2), (4, 9, 4), (8, 3, 0), (8, 4, 4)]
)
def test_half_of_the_threads_at_least_are_put_to_use(threads, allowed: int, labels: int, count: int) -> None:
    threads(allowed)
    assert together.workers(labels, 0) == count


def test_memory_bounds_the_number(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    threads(4)
    free = together.psutil.virtual_memory()._replace(available=3 * (together.ROOM + 100))
    monkeypatch.setattr(together.psutil, "virtual_memory", lambda: free)
    assert [together.workers(9, size) for size in (100, 101, 4 * together.ROOM)] == [3, 2, 0]


def test_every_label_is_done_once_in_processes_of_one_thread(tmp_path: Path) -> None:
    def work(label: str) -> None:
        print("never seen")
        (tmp_path / label).write_text(f"{os.getpid()} {torch.get_num_threads()}")

    labels = [str(number) for number in range(6)]
    assert sorted(together.together(work, labels, 2)) == labels
    said = [(tmp_path / label).read_text().split() for label in labels]
    assert str(os.getpid()) not in {process for process, _ in said} and {threads for _, threads in said} == {"1"}
    assert not multiprocessing.active_children()


def test_an_error_is_raised_here_and_ends_the_others(tmp_path: Path) -> None:
    def work(label: str) -> None:
        if label == "bad":
            raise InputError("give another")
        time.sleep(60)

    start = time.monotonic()
    with pytest.raises(InputError, match="give another"):
        list(together.together(work, ["long", "bad"], 2))
    assert time.monotonic() - start < 50 and not multiprocessing.active_children()


def test_a_killed_process_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(label: str) -> None:
        if label == "greedy":
            os.kill(os.getpid(), signal.SIGKILL)

    assert "greedy" not in list(together.together(work, ["greedy", "a", "b"], 2))
    assert "a process was killed" in capsys.readouterr().err


ORPHANS = """
import pathlib, sys, time
from quantcliff.study import together
def work(label):
    pathlib.Path(sys.argv[1], label).write_text(str(__import__("os").getpid()))
    time.sleep(300)
list(together.together(work, ["a", "b"], 2))
"""


def test_none_outlives_the_command_that_is_killed(tmp_path: Path) -> None:
    command = subprocess.Popen([sys.executable, "-c", ORPHANS, str(tmp_path)])
    until = time.monotonic() + 120
    while len([file for file in tmp_path.iterdir() if file.read_text()]) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    children = [int(file.read_text()) for file in tmp_path.iterdir()]
    assert len(children) == 2
    command.kill()
    command.wait()
    while any(_lives(child) for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(_lives(child) for child in children)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_table_is_the_same_made_by_one_or_by_several(tmp_path: Path, threads) -> None:
    tables, processes = [], []
    for number, allowed in enumerate((1, 2)):
        threads(allowed)
        study = Study("atlas", method="rtn", bits="8,4,3", n_facts=200, device="cpu", run=tmp_path / str(number))
        tables.append(logit_lens.measure(study))
        mark = tmp_path / f"{number}.txt"

        def compute(label: str, mark: Path = mark) -> pd.DataFrame:
            with mark.open("a") as file:
                file.write(f"{os.getpid()}\n")
            return pd.DataFrame({"label": [label]})

        assert study.table("macro", compute, study.labels)["label"].tolist() == study.labels
        processes.append(set(mark.read_text().split()))
    pd.testing.assert_frame_equal(*tables, rtol=1e-3, atol=1e-4)
    here = str(os.getpid())
    assert processes[0] == {here} and here in processes[1] and len(processes[1]) > 1
