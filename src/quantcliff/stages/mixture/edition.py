"""The tables that ship with the book, of both its models, and the allocation that follows from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from quantcliff import smollm2, tables
from quantcliff.models import digest_of
from quantcliff.quantizers import Scheme
from quantcliff.stages.mixture import allocation, blends
from quantcliff.stages.mixture.arms import Race, scheme_of
from quantcliff.stages.mixture.outcomes import compared
from quantcliff.stages.mixture.readings import EXACT, FAST
from quantcliff.stages.mixture.rules import BETA, MAIN
from quantcliff.stages.mixture.sensitivity import ALONE, DUAL, OPTIONS, Subject, damage, measure
from quantcliff.stages.mixture.texts import SMALLER, sizes_of
from quantcliff.stages.smollm2 import Shipped
from quantcliff.study import Study, preset_of

FOLDER = Path(__file__).parent / "tables"

TABLES = ("sensitivity", "arms", "pairs", "widths", "criteria", "blends", "blend_pairs")

TRIED_BUDGETS, TRIED_ALPHAS, TRIED_DRAWS = (3.0, MAIN, 4.0), (0.0, 0.5, 1.0), 2
"""What of `rules` time allowed: bits; shares of general text, at 3 bits, and texts drawn for each."""

READ = 2048
"""Tokens of each text whose traces are taken of a model of more than `LARGE` weights."""

N_FACTS = 4000
"""Facts of the embedded model; of SmolLM2 as many as its preset asks."""


def study_of(model: str, run: Path | str, device: str = "auto") -> Study:
    """The study in which a model's mixture is measured."""
    own = preset_of(model)
    return Study(
        model, method="gptq", bits="4,3,2", group_size=own.group_size, facts=own.facts,
        n_facts=N_FACTS if own.n_facts >= N_FACTS else own.n_facts, calibration=own.calibration, run=run, device=device,
    )  # fmt: skip


def subject_of(study: Study, method: str = "gptq") -> Subject:
    """SmolLM2's checkpoints are those of its other chapters, calibrated on its own text; 8 bits are left out there.
    Large models are read fast."""
    sizes = sizes_of(study)
    precision = FAST if sizes is SMALLER else EXACT
    if study.parameters.model == smollm2.NAME and method == "gptq":
        text = tuple(study.calibration_for("gptq"))
        return Subject(study, sizes, options=OPTIONS[:3], text=text, precision=precision)
    return Subject(study, sizes, method, precision=precision)


def check(subject: Subject, budget: float) -> None:
    """Raises InputError where no allocation of a subject's units meets a budget (bits per weight)."""
    allocation.check(_costs(subject), budget)


def allotted(subject: Subject, budget: float, beta: float = BETA, table: pd.DataFrame | None = None) -> Scheme:
    """The scheme that loses least under a budget, by what units cost alone.

    Args:
        table: of `sensitivity.measure`; measured where none is given.
    """
    table = measure(subject, (ALONE,)) if table is None else table
    alone = damage(table, list(subject.units), subject.options)
    places = allocation.allocate(allocation.summed(alone["facts"], alone["text"], beta), _costs(subject), budget)
    return scheme_of(subject, {unit: subject.options[place] for unit, place in zip(subject.units, places, strict=True)})


def _costs(subject: Subject) -> Float[np.ndarray, "unit option"]:
    return allocation.costs(subject.study.base.hf.config, subject.units, subject.options, subject.group_size)


def make(study: Study) -> dict[str, pd.DataFrame]:
    """All `TABLES` of one model; a stopped run goes on from where it was.

    Of SmolLM2 units are tried alone only, its models are put together from those of one width, no mixtures of text are
    tried, and the main budget is the only one.
    """
    subject, large = subject_of(study), study.parameters.model == smollm2.NAME
    table = measure(subject, (ALONE,) if large else (ALONE, DUAL))
    race = Race(subject, table, composed=large)
    found = {"sensitivity": table} | ran(race, large)
    if large:
        found["criteria"] = blends.criteria(subject, TRIED_ALPHAS, READ, diverse=False)
    else:
        found["criteria"] = blends.criteria(subject)
        found["blends"], found["blend_pairs"] = blends.oracle(race, (3,), TRIED_ALPHAS, TRIED_DRAWS)
    return {name: rows.assign(model=study.parameters.model) for name, rows in found.items()}


def ran(race: Race, large: bool) -> dict[str, pd.DataFrame]:
    """`arms` (see `Race.row`), `pairs` (each arm of the main budget, and `both` at all of them, against the others) and
    `widths` (bits by arm and unit)."""
    made = [(arm, race.row(arm)) for arm in race.arms(budgets=() if large else TRIED_BUDGETS)]
    arms, rows = [arm for arm, _ in made], pd.DataFrame([row for _, row in made])
    both = {arm.budget: race.outcome(arm, race.tester) for arm in arms if arm.name == "both"}
    pairs = []
    for arm in arms:
        for budget, own in both.items():
            if arm.name != "both" and (arm.scheme is not None or arm.budget == budget):
                pair = compared(own, race.outcome(arm, race.tester))
                pairs.append(pair.assign(budget=budget, against=arm.name, draw=arm.draw))
    widths = [(arm.name, arm.budget, arm.draw, *pair) for arm in arms for pair in arm.widths]
    return {"arms": rows, "pairs": pd.concat(pairs, ignore_index=True),
            "widths": pd.DataFrame(widths, columns=["arm", "budget", "draw", "unit", "bits"])}  # fmt: skip


def ship(model: str, found: Mapping[str, pd.DataFrame], about: Mapping[str, Any], out: Path = FOLDER) -> None:
    """Put one model's tables into the package; those of other models stay.

    Args:
        about: command, commit and date.
    """
    before = Shipped(out).made if (out / "made.json").is_file() else {"models": {}, "made": {}, "files": {}}
    whole = {}
    for name in TABLES:
        parts = []
        if name in before["files"]:
            table = Shipped(out).table(name)
            parts.append(table[table["model"] != model])
        if parts := [*parts, *([found[name]] if name in found else [])]:
            whole[name] = pd.concat(parts, ignore_index=True)
    digests = {**before["models"], model: digest_of(model)}
    made = {**before["made"], model: dict(about)}
    out.mkdir(parents=True, exist_ok=True)
    tables.ship(whole, {"models": digests, "made": made}, out)


def shipped_sensitivity(model: str | Path, method: str, group_size: int) -> pd.DataFrame | None:
    """The shipped table of this very model, method and group size, or None."""
    made = Shipped(FOLDER).made if (FOLDER / "made.json").is_file() else {"models": {}}
    for name, digest in made["models"].items():
        if digest_of(model) == digest and method == "gptq" and group_size == preset_of(name).group_size:
            table = Shipped(FOLDER).table("sensitivity")
            return table[table["model"] == name].reset_index(drop=True)
    return None
