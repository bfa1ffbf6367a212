"""Charts of the representations table."""

from typing import Literal

import altair as alt
import pandas as pd

from quantcliff.charts.palette import FULL
from quantcliff.charts.row import Row
from quantcliff.charts.theme import bits_color, finish, intervals, lines, method_color, reference

PLACES = {"last": "last token", "last_subject": "end of subject", "all": "all tokens"}
NUMBERS = ["estimate", "low", "high", "chance"]
TIPS = [
    alt.Tooltip("bits"),
    alt.Tooltip("layer_fp", title="layer"),
    *(alt.Tooltip(name, format=".3f") for name in NUMBERS),
    alt.Tooltip("n", title="rows"),
]


def select(
    table: pd.DataFrame,
    measure: str,
    *,
    k: int | None = None,
    positions: str = "last",
    centred: bool = True,
    method: str | None = None,
) -> pd.DataFrame:
    """Rows of one measure, layer by layer, of one method (None: the first), for one k (None: of all k).

    Of CKA only the diagonal: each layer against the same layer.
    """
    rows = table[(table["measure"] == measure) & (table["positions"] == positions) & (table["centred"] == centred)]
    rows = rows[(rows["layer_fp"] == rows["layer_q"]) & (rows["method"] == (method or table["method"].iloc[0]))]
    return rows if k is None else rows[rows["k"] == k]


def cka_map(table: pd.DataFrame, measure: str = "cka", positions: str = "last", method: str | None = None) -> Row:
    """Full precision layer against quantized layer, one map per variant of a method (None: the first)."""
    rows = table[(table["measure"] == measure) & (table["positions"] == positions)]
    rows = rows[rows["method"] == (method or table["method"].iloc[0])]
    tips = [alt.Tooltip("layer_fp"), alt.Tooltip("layer_q"), *(alt.Tooltip(name, format=".3f") for name in NUMBERS)]
    scale = alt.Scale(domain=[0, 1], scheme="viridis", clamp=True)
    legend = alt.Legend(orient="bottom", gradientLength=120, values=[0, 0.5, 1])
    made = []
    for bits, mine in rows.groupby("bits", sort=False):
        chart = (
            alt.Chart(mine)
            .mark_rect()
            .encode(
                x=alt.X("layer_q:O", title="quantized layer"),
                y=alt.Y("layer_fp:O", title="full-precision layer", sort="descending"),
                color=alt.Color("estimate:Q", title="CKA", scale=scale, legend=legend),
                tooltip=tips,
            )
        )
        own = mine.loc[mine["layer_fp"] == mine["layer_q"], "estimate"].mean()
        description = (
            "A square map: full-precision layers upwards, quantized layers to the right, colour from dark (0, unlike) "
            f"to bright (1, alike). The diagonal compares a layer with itself; its mean is {own:.2f} at {bits} bits."
        )
        made.append(finish(chart, f"{bits} bits", description, height=190))
    return Row(made)


def by_layer(
    rows: pd.DataFrame,
    name: str,
    title: str,
    *,
    signal: pd.DataFrame | None = None,
    limits: tuple[float, float] | None = (0, 1),
    by: Literal["bits", "method"] = "bits",
) -> alt.LayerChart:
    """One measure by layer, a line with a 95% band per bit width or method, and its chance level if it is one number.

    Args:
        rows: from `select`, of one k.
        name: the measure in words, for the axis.
        limits: of the axis; None for from zero to the largest.
        signal: rows of `signal_share`, drawn grey: what an error that repeats the signal would score.
    """
    x = alt.X("layer_fp:O", title="layer")
    scale = alt.Scale(domain=limits, clamp=True) if limits else alt.Scale(zero=True)
    y = alt.Y("estimate:Q", title=name, scale=scale)
    color = bits_color(rows) if by == "bits" else method_color(rows)
    layers: list[alt.Chart | alt.LayerChart] = [lines(rows, x, y, color, tooltip=["method", *TIPS])]
    chance = rows["chance"].dropna().unique()
    if len(chance) == 1:
        layers.append(reference(float(chance[0]), "chance"))
    words = f"One line with a 95% band per {'bit width' if by == 'bits' else 'method'}; {name} by layer."
    for which, group in sorted(rows.groupby(by), reverse=True):
        first, last = group.sort_values("layer_fp")["estimate"].iloc[[0, -1]]
        words += (
            f" {which}{' bits' if by == 'bits' else ''}: {first:.2f} after the first layer, {last:.2f} after the last."
        )
    if len(chance) == 1:
        words += f" Chance is {chance[0]:.2f}, dashed."
    if signal is not None:
        once = signal.drop_duplicates("layer_fp")
        grey = alt.Chart(once).encode(x=x, y=y)
        layers.append(grey.mark_line(color=FULL, strokeDash=[2, 3]).encode(tooltip=TIPS[1:3]))
        end = alt.Chart(once.nsmallest(1, "layer_fp")).mark_text(align="left", dy=-8, dx=2, fontSize=11)
        layers.append(end.encode(x=x, y=y, text=alt.value("the signal itself")))
        words += f" A grey line, the share of the signal itself, ends at {once['estimate'].iloc[-1]:.2f}."
    return finish(alt.layer(*layers), title, words, height=220)


def by_k(rows: pd.DataFrame, name: str, title: str) -> alt.LayerChart:
    """One measure of one layer against k, with intervals, and the chance level k/d as a dashed line."""
    x = alt.X("k:O", title="directions that count as signal, k")
    y = alt.Y("estimate:Q", title=name, scale=alt.Scale(domain=[0, 1], clamp=True))
    tips = [alt.Tooltip("k"), *TIPS]
    chance = alt.Chart(rows.drop_duplicates("k")).mark_line(color=FULL, strokeDash=[4, 4])
    points = intervals(rows, x, y, bits_color(rows), offset="bits", tooltip=tips)
    layer = int(rows["layer_fp"].iloc[0])
    return finish(
        alt.layer(chance.encode(x=x, y=alt.Y("chance:Q", title=name)), points),
        title,
        f"Points with 95% intervals for each k, one colour per bit width, in layer {layer}; the dashed grey line is "
        f"chance, from {rows['chance'].min():.2f} at k = {rows['k'].min()} to {rows['chance'].max():.2f} at "
        f"k = {rows['k'].max()}. All points rise with it.",
    )


def by_position(rows: pd.DataFrame, name: str, title: str) -> alt.LayerChart:
    """One measure of one layer at the last token, the subject's last token and all tokens, with intervals."""
    rows = rows.assign(place=rows["positions"].map(PLACES))
    x = alt.X("place:N", title=None, sort=list(PLACES.values()))
    y = alt.Y("estimate:Q", title=name, scale=alt.Scale(domain=[0, 1], clamp=True))
    layers: list[alt.LayerChart] = [intervals(rows, x, y, bits_color(rows), offset="bits", tooltip=["place", *TIPS])]
    chance = rows["chance"].dropna().unique()
    if len(chance) == 1:
        layers.append(reference(float(chance[0]), "chance"))
    found = rows.pivot_table(index="place", columns="bits", values="estimate", sort=False)
    words = "; ".join(
        f"{place}: " + ", ".join(f"{value:.2f} at {bits} bits" for bits, value in row.items())
        for place, row in found.iterrows()
    )
    return finish(alt.layer(*layers), title, f"Points with 95% intervals, one group per choice of tokens. {words}.")
