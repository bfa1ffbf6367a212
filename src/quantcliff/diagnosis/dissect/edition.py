"""SmolLM2's facts, dissected, and its mean lens: tables that come with the package.

`quantcliff smollm2 dissect RUN` makes them again; `made.json` beside them says by which commit they were made and what
each file hashes to.
"""

from pathlib import Path

import pandas as pd

from quantcliff.diagnosis.dissect.measure import ATTENTION, facts, measure
from quantcliff.stages import logit_lens
from quantcliff.stages.smollm2 import Shipped
from quantcliff.study import Study, preset_of

FOLDER = Path(__file__).parent / "tables"


def study_of(run: Path, device: str = "auto", method: str = "", bits: str = "") -> Study:
    """A study of SmolLM2 as its preset has it; of all methods and widths unless some are named.

    Raises:
        InputError: SmolLM2 is not on this machine.
    """
    own = preset_of("smollm2")
    return Study(
        "smollm2", method=method or own.methods, bits=bits or own.widths, group_size=own.group_size, facts=own.facts,
        n_facts=own.n_facts, calibration=own.calibration, run=run, device=device,
    )  # fmt: skip


def make(run: Path, device: str = "auto") -> dict[str, pd.DataFrame]:
    """The tables facts, dissect and lens of SmolLM2; a stopped run goes on from its model.

    Returns:
        `measure.facts`, `measure.measure` and, of GPTQ and all known facts, `logit_lens.measure`; see `small`.
    """
    study = study_of(run, device)
    found = {"facts": facts(study), "dissect": small(measure(study))}
    lens = logit_lens.measure(study_of(run, device, method="gptq"))
    kept = lens[(lens["group"] == "known") & lens["measure"].isin(["probability", "rank_median", "first", "control"])]
    return found | {"lens": kept.drop(columns="group").reset_index(drop=True)}


def small(table: pd.DataFrame) -> pd.DataFrame:
    """The table with what it needs and no more: attention in percent, other probabilities to 4 digits."""
    digits = (table["what"] == ATTENTION).map({True: 2, False: 4})
    values = [round(value, n) for value, n in zip(table["probability"].tolist(), digits, strict=True)]
    types = {"fact": "int8", "layer": "Int8", "place": "Int16", "rank": "Int32", "probability": "float32"}
    return table.assign(probability=values).drop(columns="group_size").astype(types)


def shipped() -> Shipped:
    """What comes with the package: tables "facts", "dissect" and "lens"."""
    return Shipped(FOLDER)
