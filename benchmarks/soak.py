"""Is anything lost when commands are killed? Kill them, start them again, compare with undisturbed ones.

    python benchmarks/soak.py                 20 kills on the embedded model, a few minutes
    python benchmarks/soak.py --kills 100 --seed 1 --only diagnose

Every command is first run undisturbed. Then it is run in a fresh folder and killed (SIGKILL; every other time its
whole process group, else its first process alone, which leaves a notebook's kernel behind) at a moment drawn evenly
from the time it took, and started again, until its share of the kills is used up; the last start is left alone. Three
things must hold: what comes out is what the undisturbed command made; what was finished before a kill is not made
again; nothing half-made is left over.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import pandas as pd

FINISHED = re.compile(r"(-[0-9a-f]{16}\.parquet|\.npy|layer-\d+\.safetensors)$")
"""Files that are made once; all others are put together from them at every start."""

PAGE = "page.ipynb"
"""Of the command `run`; there when it has ended."""

LEFT_OVER = re.compile(r"\.(part|partial|lock|tmp)(/|$)|\.running\.ipynb$")


@dataclass(frozen=True)
class Command:
    """A command line in a folder of its own, and how to read what it made."""

    arguments: Sequence[str]
    result: Callable[[Path], dict[str, str]]
    good: Sequence[int] = (0,)
    """Exit codes of a run that ended."""


def files(folder: str) -> Callable[[Path], dict[str, str]]:
    """The bytes of every file in a folder."""
    return lambda place: {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((place / folder).rglob("*")) if file.is_file()
    }  # fmt: skip


def tables(folder: str) -> Callable[[Path], dict[str, str]]:
    """The rows of every table directly in a folder, and the verdict without the date it was made."""

    def read(place: Path) -> dict[str, str]:
        found = {file.name: _rows(file) for file in sorted((place / folder).glob("*.parquet"))}
        verdict = place / folder / "verdict.json"
        if verdict.is_file():
            content = json.loads(verdict.read_text(encoding="utf-8"))
            found["verdict.json"] = json.dumps({name: value for name, value in content.items() if name != "made"})
        return found

    return read


def _rows(file: Path) -> str:
    return hashlib.sha256(pd.read_parquet(file).to_csv(index=False).encode()).hexdigest()


def commands(quantized: Path) -> dict[str, Command]:
    """The four commands, small, on the embedded model; two of them about a checkpoint that `quantize` made."""
    made = str(quantized)
    page = ["run", "representations", "-p", "n_facts", "300", "-p", "bits", "2", "-p", "run", "tables", "-o", PAGE]
    heal = ["heal", "atlas", made, "out", "--documents", "300", "--epochs", "1"]
    return {
        "quantize": Command(["quantize", "atlas", "out", "--bits", "2"], files("out")),
        "diagnose": Command(["diagnose", "atlas", made, "--n-facts", "100", "--out", "run"], tables("run"),
                            good=(0, 10, 11, 12)),
        "run": Command(page, lambda place: tables("tables")(place) | {PAGE: str((place / PAGE).is_file())}),
        "heal": Command(heal, files("out")),
    }  # fmt: skip


def start(command: Command, place: Path) -> subprocess.Popen:
    """The command as a process group of its own; what it says goes into a file."""
    with (place / "said").open("ab") as said:
        line = [sys.executable, "-m", "quantcliff.cli", *command.arguments]
        return subprocess.Popen(line, cwd=place, stdout=said, stderr=said, start_new_session=True)


def undisturbed(command: Command, place: Path) -> float:
    """Run a command to its end; seconds it took.

    Raises:
        RuntimeError: it ended with an exit code that is none of its good ones.
    """
    begun = time.monotonic()
    code = start(command, place).wait()
    if code not in command.good:
        raise RuntimeError(f"exit {code}: {(place / 'said').read_text(encoding='utf-8')[-2000:]}")
    return time.monotonic() - begun


def finished(place: Path) -> dict[str, int]:
    """Files that are made once, and when each was."""
    return {
        str(file.relative_to(place)): file.stat().st_mtime_ns for file in place.rglob("*") if FINISHED.search(file.name)
    }


def kill(process: subprocess.Popen, whole_group: bool) -> bool:
    """Whether the process still ran, and is now killed."""
    if process.poll() is not None:
        return False
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    return True


def hunted(
    command: Command, place: Path, pauses: Sequence[float | Callable[[], bool]], whole: dict[str, str] | None = None
) -> tuple[int, list[str]]:
    """Start a command, kill it after each pause, start it again; the last start is left alone.

    A start that ends by itself, where the machine has become faster, is the last one, and so is one that was killed
    between its last file and its exit: what it made is whole, and some commands refuse to make it once more.

    Args:
        pauses: seconds, or what is asked until it is true.
        whole: what an undisturbed command makes.

    Returns:
        How often it still ran when it was to be killed, and what was made again although it had been finished.
    """
    caught, again, before = 0, [], finished(place)
    for number, pause in enumerate(pauses):
        process = start(command, place)
        if callable(pause):
            while process.poll() is None and not pause():
                time.sleep(0.005)
        else:
            time.sleep(pause)
        killed = kill(process, whole_group=number % 2 == 0)
        caught += killed
        again += _changed(before, finished(place))
        before |= finished(place)
        if (not killed and process.returncode in command.good) or command.result(place) == whole:
            return caught, again
    undisturbed(command, place)
    return caught, again + _changed(before, finished(place))


def _changed(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [name for name, made in before.items() if name in after and after[name] != made]


def left_over(place: Path) -> list[str]:
    """Half-made things in a folder."""
    names = (str(file.relative_to(place)) for file in place.rglob("*"))
    return [name for name in names if LEFT_OVER.search(name)]


def soak(command: Command, work: Path, kills: int, seed: int) -> dict[str, object]:
    """One command, undisturbed and hunted: kills that came in time, and every fault in words."""
    places = [work / name for name in ("calm", "hunted")]
    for place in places:
        place.mkdir(parents=True)
    seconds = undisturbed(command, places[0])
    calm = command.result(places[0])
    caught, again = hunted(command, places[1], list(np.random.default_rng(seed).uniform(0, seconds, kills)), calm)
    own = command.result(places[1])
    faults = [f"made again: {name}" for name in again]
    faults += [f"left over: {name}" for name in left_over(places[1])]
    faults += [f"differs: {name}" for name in sorted({*calm, *own}) if calm.get(name) != own.get(name)]
    return {"seconds": round(seconds, 1), "starts killed": caught, "of": kills, "results": len(calm), "faults": faults}


@click.command()
@click.option("--kills", default=20, show_default=True, help="Over all commands.")
@click.option("--seed", default=0, show_default=True, help="Decides the moments.")
@click.option("--only", multiple=True, help="quantize, diagnose, run or heal; can be given several times.")
def main(kills: int, seed: int, only: tuple[str, ...]) -> None:
    """Kill commands at random moments; exit 1 if anything is lost."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        first = Command(["quantize", "atlas", "quantized", "--method", "rtn", "--bits", "2"], files("quantized"))
        undisturbed(first, work)
        chosen = {name: one for name, one in commands(work / "quantized").items() if not only or name in only}
        bad = 0
        for number, (name, command) in enumerate(chosen.items()):
            share = kills // len(chosen) + (number < kills % len(chosen))
            found = soak(command, work / name, share, seed + number)
            click.echo(f"{name}: {found}")
            bad += len(found["faults"])
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
