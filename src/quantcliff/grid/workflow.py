"""A grid as a Snakemake workflow over the command line: written into its folder, and started there.

Snakemake (Molder et al. 2021, doi 10.12688/f1000research.29032) decides what is still to be done, runs it on local
cores or hands it to a cluster through an executor plugin, and goes on after a kill. What a killed cell had finished
stays in its own folder, as with any diagnosis.
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import yaml

from quantcliff import disk
from quantcliff.errors import BuildError, InputError
from quantcliff.grid.cells import Grid, place

HERE = Path(__file__).parent


def write(grid: Grid) -> Path:
    """Put the workflow into the grid's folder (`Snakefile`, `cells.yml`), and return that."""
    out = Path(grid.out)
    cells = {
        cell.name: {"model": place(cell.model), "checkpoint": cell.checkpoint, "options": grid.diagnose(cell)}
        for cell in grid.cells()
    }
    checkpoints = {
        cell.checkpoint: {"model": place(cell.model), "options": grid.quantize(cell)} for cell in grid.cells()
    }
    command = grid.command.split() if grid.command else [sys.executable, "-m", "quantcliff.cli"]
    content = {"command": command, "threads": grid.threads, "checkpoints": checkpoints, "cells": cells}
    text = yaml.safe_dump(content, sort_keys=False)
    if not (out / "cells.yml").is_file() or (out / "cells.yml").read_text(encoding="utf-8") != text:
        disk.write(out / "cells.yml", text)
    disk.write(out / "Snakefile", (HERE / "Snakefile").read_text(encoding="utf-8"))
    return out


def start(grid: Grid, cores: str = "all", more: Sequence[str] = ()) -> None:
    """Run what is not done yet; a second `start` of the same grid waits for the first.

    Args:
        cores: local cores, or "all". more: further options of Snakemake, e.g. `--executor slurm --jobs 20`.

    Raises:
        InputError: Snakemake is not installed.
        BuildError: cells failed; the message names them, and what each said last. All others are finished.
    """
    if find_spec("snakemake") is None:
        raise InputError("Snakemake runs the grid and is not installed; pip install 'quantcliff[grid]'")
    out = write(grid)
    line = [sys.executable, "-m", "snakemake", "--cores", cores, "--rerun-incomplete", "--keep-going", "--nolock"]
    with disk.making(out):
        done = subprocess.run([*line, *more], cwd=out, check=False)
    names = [cell.name for cell in grid.cells()]
    missing = [name for name in names if not (out / "cells" / name / "verdict.json").is_file()]
    if done.returncode or (missing and not {"--dry-run", "-n"} & set(more)):
        said = "\n".join(f"{name}: {_last(out, name, grid)}" for name in missing)
        raise BuildError(
            f"{said}\n{len(missing)} of {len(names)} cells are not done (Snakemake ended with {done.returncode}); "
            "start the same command again to go on"
        )


def _last(out: Path, name: str, grid: Grid) -> str:
    """The last line that a cell, or else the making of its checkpoint, wrote."""
    checkpoint = next(cell.checkpoint for cell in grid.cells() if cell.name == name)
    for log in (out / "logs" / f"{name}.log", out / "logs" / f"{checkpoint}.quantize.log"):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
        if lines:
            return lines[-1]
    return "not started"
