"""The one picture of the book: how much of its answers a model keeps, bit by bit."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.palette import METHODS
from quantcliff.charts.theme import finish

DASHES = {"gptq": [1, 0], "awq": [6, 3], "rtn": [2, 2]}
"""How the line of each method is drawn."""


def cliff(table: pd.DataFrame) -> alt.LayerChart:
    """Share of full precision's right answers by bits: a line for each model and method, over its 95% band.

    Args:
        table: from `book.front.results`.
    """
    widths = sorted({int(bits) for bits in table["bits"]}, reverse=True)
    methods = [name for name in METHODS if name in set(table["method"])]
    methods += sorted(set(table["method"]) - METHODS.keys())
    models = list(dict.fromkeys(table["model"]))
    percent = alt.Axis(format="%")
    base = alt.Chart(table).encode(
        x=alt.X(
            "bits:Q",
            title="bits per weight",
            axis=alt.Axis(values=widths),
            scale=alt.Scale(domain=[max(widths), min(widths)], nice=False, zero=False, padding=12),
        ),
        color=alt.Color("model:N", title="model", scale=palette.scale(models)),
        detail=["model:N", "method:N"],
    )
    band = base.mark_area(opacity=0.12).encode(y=alt.Y("low:Q", title="answers kept", axis=percent), y2="high:Q")
    line = base.mark_line(point=True, strokeWidth=2.5).encode(
        y=alt.Y("kept:Q", title="answers kept", axis=percent, scale=alt.Scale(domain=[0, 1])),
        strokeDash=alt.StrokeDash(
            "method:N", title="method", legend=alt.Legend(
                symbolType="stroke", symbolSize=300, columns=3, orient="bottom"
            ),
            scale=alt.Scale(domain=methods, range=[DASHES.get(name, [1, 0]) for name in methods]),
        ),
        tooltip=[
            "model", "method", "bits", *(alt.Tooltip(name, format=".1%") for name in ("kept", "low", "high")), "mode",
            alt.Tooltip("n", title="facts"),
        ],
    )  # fmt: skip
    falls = "; ".join(
        f"{name} keeps " + ", ".join(_kept(bits, rows["kept"]) for bits, rows in part.groupby("bits", sort=False))
        for name, part in table.groupby("model", sort=False)
    )
    return finish(
        alt.layer(band, line),
        "The cliff",
        f"Lines from many bits to few, one for each model (colour) and method (dashes), with 95% bands: {falls}.",
        height=320,
    )


def _kept(bits: int, shares: pd.Series) -> str:
    ends = dict.fromkeys([f"{shares.min():.0%}", f"{shares.max():.0%}"])
    return f"{' to '.join(ends)} at {bits} bits"
