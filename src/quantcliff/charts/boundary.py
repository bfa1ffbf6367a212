"""Charts of the boundary: where the cells of the grid stand, what a number foretells, budgets by depth, density."""

import altair as alt
import numpy as np
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.theme import SHORT, finish, lines, reference

COARSE = ("4", "3", "between", "2")
"""Widths, where all between 3 and 2 bits are one kind."""

SHAPES = {"rtn": "circle", "gptq": "triangle-up", "awq": "square"}

WORDS = {
    "scaled_kappa": "margin contraction", "fact_snr": "SNR of the last stream, dB", "fed": "right with clean input",
    "sign_flips": "sign flips", "cka": "CKA diagonal", "kept": "answers kept",
}  # fmt: skip
"""What a column of the grid is called on an axis."""


def _axis(column: str) -> alt.Axis:
    return alt.Axis(format="%") if column in ("kept", "fed") else alt.Axis()


def _bits(table: pd.DataFrame) -> alt.Color:
    widths = sorted(table["bits"].unique(), reverse=True)
    return alt.Color("bits:N", title="bits", scale=palette.scale(widths), legend=SHORT)


def _coarse(table: pd.DataFrame) -> tuple[pd.DataFrame, alt.Color]:
    """The table with its widths as `COARSE` has them, and their colour."""
    whole = table["bits"].isin([4, 3, 2])
    rows = table.assign(bits=np.where(whole, table["bits"].map("{:g}".format), "between"))
    held = [width for width in COARSE if width in set(rows["bits"])]
    return rows, alt.Color("bits:N", title="bits", scale=palette.scale(held), legend=SHORT)


def _shape() -> alt.Shape:
    scale = alt.Scale(domain=list(SHAPES), range=list(SHAPES.values()))
    grey = {"symbolFillColor": palette.FULL, "symbolStrokeColor": palette.FULL}
    return alt.Shape("method:N", scale=scale, legend=alt.Legend(columns=4, orient="bottom", **grey))


def _spans(table: pd.DataFrame, column: str) -> str:
    """Smallest and largest value at each width, in words."""
    parts = table.groupby("bits")[column].agg(["min", "max"]).sort_index(ascending=False)
    return "; ".join(f"{bits:g} bits: {low:.2f} to {high:.2f}" for bits, low, high in parts.itertuples())


def scatter(grid: pd.DataFrame, x: str = "fact_snr", y: str = "scaled_kappa") -> alt.Chart:
    """One point a cell, coloured by bits and shaped by method."""
    tips = ["cell", alt.Tooltip("kept", format=".1%"), alt.Tooltip(x, format=".2f"), alt.Tooltip(y, format=".2f")]
    rows, color = _coarse(grid)
    chart = alt.Chart(rows).mark_point(size=55, opacity=0.75, filled=True).encode(
        alt.X(f"{x}:Q", title=WORDS.get(x, x), scale=alt.Scale(zero=False), axis=_axis(x)),
        alt.Y(f"{y}:Q", title=WORDS.get(y, y), scale=alt.Scale(zero=False), axis=_axis(y)),
        color, _shape(), tooltip=tips,
    )  # fmt: skip
    return finish(
        chart, f"{len(grid)} quantized models",
        f"{WORDS.get(y, y)} over {WORDS.get(x, x)}, a point for each quantized model, by bits and method; "
        f"{WORDS.get(y, y)} at {_spans(grid, y)}.",
    )  # fmt: skip


def leaning(cells: pd.DataFrame) -> alt.LayerChart:
    """Pairs of lost answers that lean the right way over answers kept, a point a cell; chance is a dashed line.

    Args:
        cells: columns cell, bits (colour), kept, forms, and model (shape), as it shall be called.
    """
    names = list(dict.fromkeys(cells["model"]))
    rows, color = _coarse(cells.sort_values("bits", ascending=False, kind="stable"))
    scale = alt.Scale(domain=[0.4, 1])
    y = alt.Y("forms:Q", title="pairs that lean the right way", axis=alt.Axis(format="%"), scale=scale)
    grey = {"symbolFillColor": palette.FULL, "symbolStrokeColor": palette.FULL, "columns": 2, "orient": "bottom"}
    chart = alt.Chart(rows).mark_point(size=50, opacity=0.75, filled=True).encode(
        alt.X("kept:Q", title="answers kept", axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
              scale=alt.Scale(domain=[-0.02, 1], nice=False)), y,
        color,
        alt.Shape("model:N", title=None, scale=alt.Scale(domain=names, range=["circle", "triangle-up"][: len(names)]),
                  legend=alt.Legend(**grey)),
        tooltip=["model", "cell", alt.Tooltip("kept", format=".1%"), alt.Tooltip("forms", format=".1%")],
    )  # fmt: skip
    chance = alt.Chart(pd.DataFrame({"forms": [0.5], "text": "chance"}))
    line = chance.mark_rule(strokeDash=[4, 4], opacity=0.6).encode(y=y)
    name = chance.mark_text(align="right", dx=-4, dy=-6).encode(y=y, x=alt.value("width"), text="text:N")
    words = "; ".join(
        f"{model} at {bits:g} bits: {part['kept'].min():.0%} to {part['kept'].max():.0%} kept, "
        f"{part['forms'].min():.0%} to {part['forms'].max():.0%} lean right"
        for (model, bits), part in cells.groupby(["model", "bits"], sort=False)
    )
    return finish(
        alt.layer(line, name, chart), "One way down, and where it ends",
        f"Pairs of lost answers that lean the right way over answers kept, a point for each of {len(cells)} quantized "
        f"models: {words}.",
    )  # fmt: skip


def along(placed: pd.DataFrame) -> alt.Chart:
    """Where cells stand between two components (`way`, 0 to 1), a row for each width."""
    widths = sorted(placed["bits"].unique(), reverse=True)
    chart = alt.Chart(placed).mark_point(size=45, opacity=0.6, filled=True).encode(
        alt.X("way:Q", title="way from one component's mean to the other's"),
        alt.Y("bits:O", sort=widths), _bits(placed).legend(None), _shape(),
        tooltip=["cell", alt.Tooltip("way", format=".2f"), alt.Tooltip("kept", format=".1%")],
    )  # fmt: skip
    return finish(
        chart, "The way from one component to the other",
        f"Where each quantized model stands between the means of the two components; at {_spans(placed, 'way')}.",
        height=220,
    )  # fmt: skip


def foretold(predicted: pd.DataFrame, number: str, called: str = "") -> alt.LayerChart:
    """Answers kept against the prediction from cells of other models (or methods); `left_out`'s table.

    Args:
        number: what was looked up; `called`: its name for readers.
    """
    called, groups = called or number, list(dict.fromkeys(predicted["left_out"]))
    axis = alt.Axis(format="%")
    share = alt.Scale(domain=[0, 1])
    points = alt.Chart(predicted).mark_point(size=50, opacity=0.7).encode(
        alt.X("predicted:Q", title="predicted", axis=axis, scale=share),
        alt.Y("kept:Q", title="answers kept", axis=axis, scale=share),
        alt.Color("left_out:N", title="left out", scale=palette.scale(groups), legend=SHORT),
        tooltip=["cell", alt.Tooltip("kept", format=".1%"), alt.Tooltip("predicted", format=".1%")],
    )  # fmt: skip
    line = alt.Chart(pd.DataFrame({"x": [0, 1], "y": [0, 1]})).mark_line(color=palette.FULL, strokeDash=[4, 4])
    off = (predicted["predicted"] - predicted["kept"]).abs().groupby(predicted["left_out"], sort=False).mean()
    words = "; ".join(f"{name} left out: off by {100 * value:.0f} points on average" for name, value in off.items())
    return finish(
        alt.layer(line.encode(x="x:Q", y="y:Q"), points), f"Foretold by {called}",
        f"Answers kept against the share predicted from {called} on cells of the others: {words}.",
    )  # fmt: skip


def budget(layers: pd.DataFrame, column: str = "amplification", title: str = "amplification") -> alt.LayerChart:
    """One measure of the budget by depth: the mean over cells of a width, a line each, and the range of nine in ten."""
    found = layers.groupby(["bits", "layer"])[column].quantile([0.05, 0.5, 0.95]).unstack()
    rows = found.set_axis(["low", "estimate", "high"], axis=1).dropna().reset_index().astype({"layer": int})
    means = rows.groupby("bits")["estimate"].mean().sort_index(ascending=False)
    words = "; ".join(f"{bits:g} bits: {value:.2f}" for bits, value in means.items())
    chart = lines(
        rows, alt.X("layer:O"), alt.Y("estimate:Q", title=title, scale=alt.Scale(zero=False)), _bits(rows),
        tooltip=["bits", "layer", alt.Tooltip("estimate", format=".2f")],
    )  # fmt: skip
    return finish(
        chart, f"{title[0].upper()}{title[1:]} by depth",
        f"{title} in each layer, median over quantized models of a width: {words}.", height=220,
    )  # fmt: skip


def knowledge(table: pd.DataFrame, method: str = "gptq", group_size: int = 32) -> alt.LayerChart:
    """Bits of knowledge per weight over bits per weight, a line per trained model; `density`'s table."""
    here = (table["method"] == method) & (table["group_size"] == group_size)
    rows = table[here].sort_values(["facts", "layers"], kind="stable")
    facts, layers = (rows[name].map(f"{{:,}} {name}".format) for name in ("facts", "layers"))
    rows = rows.assign(learned=facts, depth=layers, model=facts + ", " + layers)
    color = alt.Color("learned:N", title=None, scale=palette.scale(dict.fromkeys(facts)), legend=alt.Legend(columns=1))
    dashes = alt.Scale(domain=list(dict.fromkeys(layers)), range=[[1, 0], [5, 3], [2, 2]])
    below = alt.Legend(orient="bottom", symbolStrokeColor=palette.FULL)
    full = table[table["method"] == "full"]["density"].max()
    words = "; ".join(f"{row.model} at {row.bits} bits: {row.density:.3f}" for row in rows.itertuples())
    chart = lines(
        rows, alt.X("bits:O", title="bits per weight", sort="descending"),
        alt.Y("density:Q", title="bits of knowledge per weight", scale=alt.Scale(domainMin=0)), color,
        low="density_low", high="density_high", tooltip=["model", "bits", alt.Tooltip("density", format=".3f")],
        dash=alt.StrokeDash("depth:N", title=None, scale=dashes, legend=below),
    )  # fmt: skip
    return finish(
        alt.layer(chart, reference(full, "the most in full precision", "right")), "Knowledge per weight",
        f"Bits of knowledge per weight after {method}, by bits per weight: {words}.",
    )  # fmt: skip
