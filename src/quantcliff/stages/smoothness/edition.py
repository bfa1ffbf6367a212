"""The tables that ship with the book: cells of the boundary's grid, trials of the principle, and SmolLM2 in short.

Each is made by a command of its own; `made.json` says by which, at which commit, and what its file hashes to.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from quantcliff import models, smollm2, tables
from quantcliff.stages import boundary
from quantcliff.stages.boundary import Cell
from quantcliff.stages.macro import running_text
from quantcliff.stages.smollm2 import Shipped
from quantcliff.stages.smoothness import principle
from quantcliff.stages.smoothness.inputs import NEAR, STANDARD, Inputs, Sizes
from quantcliff.stages.smoothness.measures import measure
from quantcliff.stages.smoothness.rules import RADIUS
from quantcliff.stages.smoothness.seen import INSIDE, NONE, Looking, Seen
from quantcliff.study import Study, preset_of
from quantcliff.study.parameters import Parameters
from quantcliff.study.shelf import Shelf

FOLDER = Path(__file__).parent / "tables"

SHORT = Sizes(sequences=32, finite=8, directions=1, probes=0, prefixes=32, near=3, trees=48, cap=32, samples=0)
"""For each cell of the grid."""

REAL = Sizes(
    sequences=16, finite=4, directions=1, probes=2, prefixes=16, trees=16, places=3, near=3, cap=16, samples=16
)
"""For SmolLM2."""

LARGE = 20_000_000
"""Parameters from which on a model is read in short."""

SHOWN = Cell("atlas", "rtn", 3.0, 64)
"""The cell that the chapter measures again."""


def sizes_of(study: Study) -> Sizes:
    """What a study's model is read with: `STANDARD`, or `REAL` where it is large."""
    return REAL if study.base.hf.num_parameters() >= LARGE else STANDARD


def known(asked: Parameters) -> pd.DataFrame | None:
    """SmolLM2's shipped table, where that is what a study asks for; of other models none."""
    if asked.model != smollm2.NAME:
        return None
    own = preset_of(smollm2.NAME)
    same = not asked.text and asked.seed == 0
    same &= (asked.group_size, asked.calibration) == (own.group_size, own.calibration)
    return Shipped(FOLDER).table("smollm2") if same else None


def cells() -> list[Cell]:
    """Those of the boundary's grid that are measured (`rules`, 3)."""
    grid = boundary.atlas_grid(dampings=(0.01,))
    return [cell for cell in grid if cell.method != "awq" or cell.calibration == "in"] + boundary.between_grid()


def numbers(own: Seen, full: Seen) -> dict[str, float]:
    """A cell in single numbers (`rules.NAMED` and some more), from what was seen `beside` full precision."""

    def ratio(measure: str, part: str, at: float) -> float:
        return float(own.values[measure, part, at].mean() / full.values[measure, part, at].mean())

    def mean(measure: str, part: str) -> float:
        return float(own.values[measure, part, NONE].mean())

    return {
        "tau": own.tau,
        "norm_ratio": ratio("norm", INSIDE, NONE),
        "direction": mean("direction", INSIDE),
        "slope_ratio": ratio("slope", "", RADIUS),
        "survival": mean("survival", NEAR),
        "own_shared": mean("own_shared", NEAR),
        "union_ratio": ratio("union", NEAR, NONE),
        "shift_ratio": ratio("shift", NEAR, NONE),
        "tree_ratio": ratio("nodes", "", float(len(own.nodes[0]))),
    }


def measured(study: Study, asked: Sequence[Cell], sizes: Sizes = SHORT) -> pd.DataFrame:
    """The twin of every cell of a study's model; what is finished is read back.

    Returns:
        model, cell, `numbers`.
    """
    looking = Looking.of(study.base, Inputs.of(study.base, running_text(study), sizes, study.seed), sizes, study.seed)
    inside = looking.inputs.inside
    full: list[Seen] = []

    def compute(cell: Cell) -> pd.DataFrame:
        if not full:
            full.extend(looking.look(models.twin(study.base), (1.0,)))
        own = boundary.made(study, cell)
        (seen,) = looking.look(own, (looking.twin(own),))
        return pd.DataFrame(
            [{"model": cell.model, "cell": cell.label, **numbers(seen.beside(full[0], inside), full[0])}]
        )

    parts = []
    for cell in tqdm(asked, desc="smoothness of the grid", disable=None):
        content = [study.base.digest, asdict(cell), asdict(sizes), running_text(study), study.seed]
        parts.append(Shelf(study.run).kept("smoothness_cells", cell.label, content, partial(compute, cell)))
    return pd.concat(parts, ignore_index=True)


def joined(found: pd.DataFrame) -> pd.DataFrame:
    """With what the boundary's tables say of the same cells: bits, group_size, method, kept, text_kl, stream_snr,
    text_agree."""
    shipped = Shipped(boundary.FOLDER)
    known = pd.concat([shipped.table("grid"), shipped.table("between")], ignore_index=True)
    columns = ["model", "cell", "method", "bits", "group_size", "kept", "text_kl", "stream_snr", "text_agree"]
    return found.merge(known[columns], on=["model", "cell"], how="left", validate="one_to_one")


def grid(run: Path, device: str = "auto") -> pd.DataFrame:
    """The table `cells`."""
    return joined(measured(boundary.study_of("atlas", run, device), cells()))


def trials(run: Path, device: str = "auto") -> pd.DataFrame:
    """The table `trials`: `principle.make` of every method."""
    found = [principle.make(principle.study_of(run, method, device)) for method in principle.METHODS]
    return pd.concat(found, ignore_index=True)


def real(run: Path, device: str = "auto") -> pd.DataFrame:
    """The table `smollm2`: `measure`, in short.

    Raises:
        InputError: SmolLM2 is not on this machine.
    """
    own = preset_of("smollm2")
    study = Study(
        "smollm2", method="gptq,rtn", bits="4,3,2", group_size=own.group_size, facts=own.facts, n_facts=own.n_facts,
        calibration=own.calibration, run=run, device=device,
    )  # fmt: skip
    return measure(study, REAL)


TABLES = {"cells": grid, "trials": trials, "smollm2": real}
"""Name -> what makes it, from a run folder and a device."""


def ship(name: str, table: pd.DataFrame, about: dict[str, Any], out: Path | None = None) -> None:
    """Put a table into the package, in place of the one of that name; `tables` in made.json says what made it."""
    out = FOLDER if out is None else out
    file = out / "made.json"
    made = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"tables": {}, "files": {}}
    made["tables"][name] = about
    tables.ship({name: table}, made, out)


__all__ = ["FOLDER", "REAL", "SHORT", "SHOWN", "TABLES", "cells", "joined", "known", "measured", "numbers", "ship"]
