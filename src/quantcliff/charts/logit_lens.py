"""Charts of the lens table: one line per bit width, bottom layer to top."""

import altair as alt
import numpy as np
import pandas as pd

from quantcliff.charts.palette import FULL_NAME, UNROUNDED
from quantcliff.charts.theme import bits_color, decades, finish, lines, models, reference
from quantcliff.study import FULL

LAYER = alt.X("layer:Q", title="after layer", axis=alt.Axis(tickMinStep=1, format="d"))
TIPS = [
    "model", "layer", alt.Tooltip("estimate", format=".3~g"), alt.Tooltip("low", format=".3~g"),
    alt.Tooltip("high", format=".3~g"), alt.Tooltip("n", title="prompts"),
]  # fmt: skip


def select(table: pd.DataFrame, measure: str, method: str, group: str) -> pd.DataFrame:
    """Rows of full precision and of one method, with what each `model` is called."""
    same = (table["measure"] == measure) & (table["group"] == group)
    rows = table[same & table["method"].isin([FULL, method])]
    return rows.assign(model=models(rows))


def probability(table: pd.DataFrame, method: str, group: str = "known") -> alt.LayerChart:
    """Mean probability of the answer by layer; dashed lines are the control, another fact's answer."""
    rows = select(table, "probability", method, group)
    control = select(table, "control", method, group)
    y = alt.Y("estimate:Q", title="probability", scale=alt.Scale(domain=[0, 1]))
    dashed = alt.Chart(control).mark_line(strokeDash=[3, 3], strokeWidth=1.5)
    dashed = dashed.encode(x=LAYER, y=y, color=bits_color(rows), tooltip=TIPS)
    return finish(
        alt.layer(lines(rows, LAYER, y, bits_color(rows), tooltip=TIPS), dashed),
        f"The answer on its way up: {group} facts, {method}",
        "Probability that the lens gives the right answer, by layer from bottom to top, one line with a 95% band per "
        f"bit width, dashed for another fact's answer of the same relation. {_tops(rows, '.0%')}",
    )


def rank(table: pd.DataFrame, method: str, group: str = "known") -> alt.LayerChart:
    """Median rank of the answer by layer, on a logarithmic axis."""
    rows = select(table, "rank_median", method, group)
    axis = decades(rows["low"], rows["high"])
    y = alt.Y("estimate:Q", title="median rank", scale=alt.Scale(type="log"), axis=axis)
    return finish(
        lines(rows, LAYER, y, bits_color(rows), tooltip=TIPS),
        f"Rank of the answer by layer: {group} facts, {method}",
        "Median rank that the lens gives the right answer, on a logarithmic axis, by layer from bottom to top, one "
        f"line with a 95% band per bit width. {_tops(rows, ',.0f')}",
    )


def entropy(table: pd.DataFrame, method: str, group: str = "known", vocab: int | None = None) -> alt.LayerChart:
    """Mean entropy of the lens by layer; `vocab` draws the highest it can be."""
    rows = select(table, "entropy", method, group)
    y = alt.Y("estimate:Q", title="entropy in nats", scale=alt.Scale(domainMin=0))
    chart = lines(rows, LAYER, y, bits_color(rows), tooltip=TIPS)
    whole = chart if vocab is None else alt.layer(chart, reference(float(np.log(vocab)), "all tokens alike"))
    return finish(
        whole,
        f"How decided the lens is: {group} facts, {method}",
        "Entropy of the lens in nats, by layer from bottom to top, one line with a 95% band per bit width; low means "
        f"decided, rightly or wrongly. {_tops(rows, '.1f')}",
    )


def _tops(rows: pd.DataFrame, style: str) -> str:
    top = rows[rows["layer"] == rows["layer"].max()]
    named = [FULL_NAME if bits >= UNROUNDED else f"{bits} bits" for bits in top["bits"]]
    said = ", ".join(f"{name} {value:{style}}" for name, value in zip(named, top["estimate"], strict=True))
    return f"At the top: {said}."
