"""The tables that ship with the book: some minutes of training, and the verdicts on what came of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from quantcliff import tables
from quantcliff.stages.healing.beside import beside, equal
from quantcliff.stages.healing.trials import AS_IT_IS, Arm, arms, checkpoint, measure
from quantcliff.study import Study

FOLDER = Path(__file__).parent / "tables"

CURVE, EQUAL = (256, 1024), 1024
"""Sequences of the learning curve, and those at which controls are compared."""

SHOWN = Arm("healed", CURVE[-1])
"""The arm whose model is diagnosed."""

LIKE = "more bits"
"""Name of the unhealed model that keeps about as many answers: plain rounding to 3 or 4 bits, in groups or whole rows,
whichever is nearest."""

ROUNDED = ("rtn", "rtn, healed")
"""Names of the model of plain rounding, as it is and healed."""


def make(run: Path, device: str = "auto") -> dict[str, pd.DataFrame]:
    """Both tables of the edition, for GPTQ and plain rounding at 2 bits; a killed run goes on from where it was.

    Returns:
        `healing` (see `measure`): GPTQ in all arms, plain rounding as it is and healed. `beside` (see `beside`): GPTQ
        as it is, healed, and the model `LIKE`; plain rounding as it is and healed (`ROUNDED`).
    """
    gptq = Study("atlas", method="gptq", bits="2", run=run, device=device)
    rtn = Study("atlas", method="rtn", bits="2", run=run, device=device)
    found = measure(gptq, arms(CURVE, EQUAL, ("scales only", "wrong target")))
    found = pd.concat([found, measure(rtn, [AS_IT_IS, SHOWN])], ignore_index=True)
    (label,), (plain,) = gptq.variants, rtn.variants
    kept = found.query(
        f"variant == '{label}' and arm == '{SHOWN.name}' and sequences == {SHOWN.sequences} and part == 'all' and "
        "measure == 'kept'"
    )["estimate"].item()
    others = [Study("atlas", method="rtn", bits="4,3", group_size=n, run=run, device=device) for n in (128, -1)]
    folders = {
        "as it is": gptq.variant(label).path,
        SHOWN.name: checkpoint(gptq, label, SHOWN),
        LIKE: equal(others, kept).path,
        ROUNDED[0]: rtn.variant(plain).path,
        ROUNDED[1]: checkpoint(rtn, plain, SHOWN),
    }
    return {"healing": found, "beside": beside(gptq, folders)}


def add(name: str, table: pd.DataFrame, about: dict[str, Any], out: Path) -> None:
    """Put one table beside those that `tables.ship` wrote; `later` in made.json says what it was made by."""
    made = json.loads((out / "made.json").read_text(encoding="utf-8"))
    made["later"] = {**made.get("later", {}), name: about}
    tables.ship({name: table}, made, out)


def row(
    table: pd.DataFrame, arm: str, sequences: int, part: str = "held-out", measure: str = "kept", method: str = "gptq"
) -> pd.Series:
    """The one row of `measure`'s table for an arm."""
    here = (table["arm"] == arm) & (table["sequences"] == sequences) & (table["method"] == method)
    found = table[here & (table["part"] == part) & (table["measure"] == measure)]
    assert len(found) == 1, (arm, sequences, part, measure, method)
    return found.iloc[0]


def signals(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Rows of `beside`'s table as a whole: one row per signal or question, one column per model."""
    rows = table[table["layer"].isna() & table["signal"].isin(list(names))]
    wide = rows.pivot(index="signal", columns="model", values="value")
    return wide.loc[list(names), list(dict.fromkeys(table["model"]))].reset_index()
