"""The paper's figures beside ours: does what was measured here agree with what was published?

The rule, written down before any row was judged. What the paper says of a figure is one of these:

- *about v*: a number. The paper gives no interval and mostly one digit, so everything within `NEAR` of it is the same.
- *between v and w*: numbers of several models; the same from `NEAR` below the least to `NEAR` above the greatest.
- *above v*, *below v*: a bound, met on its side.
- *mode*: words. They are held to what the verdict's signal of that name reads (its marks: `stages.verdict.signals`,
  fixed before any model was measured), at both ends of its interval: "there" is anything but collapsed, "gone" is
  collapsed.

Ours is a value with a 95% interval. It *agrees* if the whole interval meets what the paper says, it *differs* if no
part of it does, and else it *cannot be told*; nor can it where there is no value. An interval that is wider than what
the paper says lies on both sides of it and cannot be told either.

- *early*: the layer that costs most when it alone is quantized lies in the first third of the layers; it cannot be told
  where its interval meets that of the worst layer beyond the first third.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

AGREES, DIFFERS, UNKNOWN = "agrees", "differs", "cannot be told"

NOTHING = "not measured"

NEAR = 0.1
"""How far from a published number a value may lie and be the same."""

FAILED = 1.0
"""Severity from which on a signal reads collapsed (`stages.verdict.signals`)."""

PRESET = "--preset paper -p model path/to/Llama-3.1-8B -p facts path/to/pararel -p calibration path/to/c4.txt"
"""What makes a command measure as the paper did: its bits and groups, ParaRel, C4."""


def published() -> pd.DataFrame:
    """Every figure of arXiv 2604.19884 that is known here (paper.csv); where it names no model, it is Llama-3.1-8B.

    Returns:
        stage (of the paper), figure, bits, says (in words), relation (about, between, above, below, mode, early, or
        none: not measured), value and upper (numbers of the relation), ours (our figure, as `stages.smollm2.figures`
        names it), why (a reason why ours may differ), chapter (which measures it).
    """
    table = pd.read_csv(Path(__file__).with_name("paper.csv"))
    return table.fillna({"ours": "", "why": ""})


def command(chapter: str) -> str:
    """What a reader with a GPU runs to settle the figures of a chapter."""
    return f"quantcliff run {chapter} {PRESET}"


def judge(relation: str, value: float, upper: float, low: float, high: float) -> str:
    """The rule of this module for one interval.

    Args:
        value, upper: numbers that the paper gives. "mode": the bits at which it is seen; `low` and `high` are then the
            least and the greatest severity.
    """
    ends = {
        "about": (value - NEAR, value + NEAR), "between": (value - NEAR, upper + NEAR),
        "above": (value, float("inf")), "below": (float("-inf"), value),
        "mode": (float("-inf"), FAILED) if value == 4 else (FAILED, float("inf")),
    }  # fmt: skip
    if relation not in ends or pd.isna(low) or pd.isna(high):
        return UNKNOWN
    least, most = ends[relation]
    if least <= low and high <= most:
        return AGREES
    return DIFFERS if high < least or low > most else UNKNOWN


def early(verdict: pd.DataFrame, method: str, bits: int) -> tuple[str, str]:
    """The worst layer in words, and whether it is an early one (see the rule)."""
    rows = verdict[(verdict["signal"] == "alone") & verdict["layer"].notna() & (verdict["method"] == method)]
    rows = rows[rows["bits"] == bits].sort_values("layer")
    if rows.empty:
        return NOTHING, UNKNOWN
    first = rows["layer"] < (int(rows["layer"].max()) + 1) / 3
    worst, other = (part.loc[part["value"].idxmin()] for part in (rows[first], rows[~first]))
    if worst["value"] > other["value"]:
        worst, other = other, worst
    kept = f"{worst['value']:.2f} kept ({worst['low']:.2f} to {worst['high']:.2f})"
    said = f"layer {worst['layer']} of {len(rows)}: {kept}"
    if worst["high"] >= other["low"]:
        return said, UNKNOWN
    return said, AGREES if bool(first[worst.name]) else DIFFERS


def beside(
    models: Mapping[str, pd.DataFrame], verdicts: Mapping[str, pd.DataFrame], method: str = "gptq"
) -> pd.DataFrame:
    """Every figure of the paper and every model: what is said there, what is measured here, and the outcome.

    Args:
        models: name -> `stages.smollm2.figures` of that model.
        verdicts: name -> the table of `stages.verdict.measure`.

    Returns:
        The columns of `published`, and model, here (value and interval in words), outcome.
    """
    rows = []
    for figure in published().to_dict("records"):
        for model, table in models.items():
            here, outcome = _one(figure, table, verdicts[model], method)
            rows.append(figure | {"model": model, "here": here, "outcome": outcome})
    return pd.DataFrame(rows)


def _one(figure: dict, table: pd.DataFrame, verdict: pd.DataFrame, method: str) -> tuple[str, str]:
    if figure["relation"] == "early":
        return early(verdict, method, figure["bits"])
    rows = table[(table["figure"] == figure["ours"]) & (table["method"] == method) & (table["bits"] == figure["bits"])]
    rows = rows.dropna(subset="estimate")
    if rows.empty:
        return NOTHING, UNKNOWN
    value, low, high = (float(rows[column].iloc[0]) for column in ("estimate", "low", "high"))
    style = ",.0f" if figure["ours"] == "answer rank" else ".2f"
    said = [f"{round(number, 2) + 0.0:{style}}" for number in (value, low, high)]
    if figure["relation"] == "mode":
        own = verdict[(verdict["signal"] == figure["ours"]) & verdict["layer"].isna()]
        low, high = own[(own["method"] == method) & (own["bits"] == figure["bits"])][["least", "most"]].iloc[0]
    outcome = judge(figure["relation"], figure["value"], figure["upper"], low, high)
    return f"{said[0]} ({said[1]} to {said[2]})", outcome


def counts(table: pd.DataFrame, model: str, bits: int | None = None) -> dict[str, int]:
    """How many of a model's figures have each outcome; at some bits, or all."""
    rows = table[table["model"] == model]
    rows = rows if bits is None else rows[rows["bits"] == bits]
    return {outcome: int((rows["outcome"] == outcome).sum()) for outcome in (AGREES, DIFFERS, UNKNOWN)}
