"""Weights, inputs or cache: which of the things that are quantized is to blame for the lost answers?

Each is switched off by itself, and each is left on by itself. *Chosen*, and written down before it was run: a part is
to blame if at least half of the lost answers return when it alone is off. If that holds of none, the parts are that by
themselves lose at least half of these answers; and if it holds of none either, it is their sum.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Bool

from quantcliff import stats
from quantcliff.models import Served, serve
from quantcliff.stages.verdict.pair import Pair
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, score

HALF = 0.5

SUM = ("their sum",)

OFF: Mapping[str, Mapping[str, object]] = {
    "inputs": {"inputs": None, "inputs_of": {}}, "cache": {"keys": None, "values": None},
}  # fmt: skip
"""Parts beside the weights, and the fields of a `Served` when they are off."""


def parts(pair: Pair) -> list[str]:
    """What is quantized: of "weights", "inputs", "cache"."""
    variant = pair.study.variant(pair.label)
    served = variant.served or Served()
    own = pair.study.model(pair.label).hf.state_dict()
    same = all(value.equal(own[name]) for name, value in pair.study.base.hf.state_dict().items())
    found = [part for part, fields in OFF.items() if any(getattr(served, name) != off for name, off in fields.items())]
    return found if same else ["weights", *found]


def measure(pair: Pair) -> pd.DataFrame:
    """One row for each part that is quantized, over the lost answers.

    Returns:
        part; returns, returns_low, returns_high (share of the lost answers that return with this part off, Wilson);
        loses, loses_low, loses_high (share of them that are lost with this part alone on); n; blamed. Empty where too
        few answers are lost.
    """
    names = [] if pair.few else parts(pair)
    rows = []
    for part in names:
        back = stats.share(_right(pair, set(names) - {part}))
        gone = stats.share(~_right(pair, {part}))
        rows.append([part, *back, *gone, len(pair.lost)])
    intervals = [f"{name}{end}" for name, end in product(("returns", "loses"), ("", "_low", "_high"))]
    table = pd.DataFrame(rows, columns=["part", *intervals, "n"])
    return table.assign(blamed=[part in blamed(table) for part in table["part"]])


def of_variant(study: Study, label: str, n_prompts: int = 100) -> pd.DataFrame:
    """`measure` of one variant of a study -> RUN/verdict_blame.parquet."""

    def compute(label: str) -> pd.DataFrame:
        return measure(Pair(study, label, n_prompts, pd.DataFrame))

    return study.table("verdict_blame", compute, [label], n_prompts=n_prompts)


def sentence(table: pd.DataFrame) -> str:
    """Who is to blame, in words; "" where nothing was asked."""
    if table.empty:
        return ""
    parts = "; ".join(
        f"with exact {row.part} {row.returns:.0%} return, with them alone quantized {row.loses:.0%} are lost"
        for row in table.itertuples()
    )
    return f"To blame for the lost answers: {' and '.join(blamed(table))} ({parts})."


def blamed(table: pd.DataFrame) -> tuple[str, ...]:
    """The parts to blame, by the rule of this module; `SUM` where it is none of them alone.

    Args:
        table: part, returns, loses.
    """
    for column in ("returns", "loses"):
        if (found := table[table[column] >= HALF]["part"]).size:
            return tuple(found)
    return SUM if len(table) else ()


def _right(pair: Pair, on: set[str]) -> Bool[np.ndarray, " lost"]:
    """Whether the lost answers are right with these parts quantized and no other."""
    study = pair.study
    served = study.variant(pair.label).served or Served()
    for part, fields in OFF.items():
        served = served if part in on else replace(served, **fields)  # type: ignore[arg-type]
    model = replace(study.model(pair.label if "weights" in on else FULL), served=None)
    return (score(Runner(serve(model, served)), pair.probes)["rank"] == 1).to_numpy()
