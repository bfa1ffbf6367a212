"""Charts of the mixture: how alike two rankings are, what allocations cost at which budget, who gets which bits."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.theme import SHORT, finish

CALLED = {"facts": "answers of facts", "text": "running text", "copies": "copies"}

ARMS = ("both", "task", "general", "even")


def depths(means: pd.DataFrame) -> alt.Chart:
    """Each unit's share of the damage, by layer; rows: unit, layer, signal, share."""
    by_layer = means.groupby(["signal", "layer"], sort=False)["share"].sum().reset_index()
    by_layer = by_layer.assign(loss=by_layer["signal"].map(CALLED))
    names = [CALLED[name] for name in dict.fromkeys(by_layer["signal"])]
    color = alt.Color("loss:N", title=None, scale=palette.scale(names), legend=SHORT)
    tops = by_layer.loc[by_layer.groupby("signal", sort=False)["share"].idxmax()]
    words = "; ".join(f"{row.loss}: most in layer {row.layer} ({row.share:.0%})" for row in tops.itertuples())
    chart = alt.Chart(by_layer).mark_line(point=True).encode(
        alt.X("layer:O"), alt.Y("share:Q", title="share of the damage", axis=alt.Axis(format="%")), color,
        tooltip=["loss", "layer", alt.Tooltip("share", format=".1%")],
    )  # fmt: skip
    return finish(chart, "Where bits are missed", f"Share of the damage by layer: {words}.", height=220)


def against(means: pd.DataFrame) -> alt.Chart:
    """A point a unit: its share of the damage to running text over that to answers; rows: unit, layer, facts, text."""
    axis = alt.Axis(format="%")
    chart = alt.Chart(means).mark_point(size=55, opacity=0.75, filled=True).encode(
        alt.X("text:Q", title="share of the damage to running text", axis=axis),
        alt.Y("facts:Q", title="share of the damage to answers", axis=axis),
        tooltip=["unit", "layer", alt.Tooltip("text", format=".1%"), alt.Tooltip("facts", format=".1%")],
    )  # fmt: skip
    most = means.loc[means["facts"].idxmax()]
    return finish(
        chart, "Every unit, by two losses",
        f"{len(means)} units by their shares of the damage to running text and to answers; most costly for answers is "
        f"{most['unit']} with {most['facts']:.0%}, and {most['text']:.0%} of that to text.",
    )  # fmt: skip


def budgets(arms: pd.DataFrame, column: str = "kept", title: str = "answers kept") -> alt.LayerChart:
    """What each allocation keeps over the bits it takes, and models of one width; `arms` of `edition`."""
    lines = arms[arms["arm"].isin(list(ARMS))].sort_values("bits")
    single = arms[arms["budget"].isna() & arms["bits"].gt(2.9)]
    axis = alt.Axis(format="%") if column == "kept" else alt.Axis()
    x = alt.X("bits:Q", title="bits per weight, all counted", scale=alt.Scale(zero=False, padding=12))
    y = alt.Y(f"{column}:Q", title=title, axis=axis, scale=alt.Scale(zero=False))
    color = alt.Color("arm:N", title=None, scale=palette.scale(ARMS), legend=SHORT)
    tips = ["arm", alt.Tooltip("bits", format=".2f"), alt.Tooltip(column, format=".1%" if column == "kept" else ".3f")]
    curve = alt.Chart(lines).mark_line(point=True).encode(x, y, color, tooltip=tips)
    grey = alt.Chart(single).mark_point(shape="diamond", size=70, color=palette.FULL).encode(x, y, tooltip=tips)
    named = alt.Chart(single[single["arm"].str.startswith("gptq")])
    names = named.mark_text(dy=-11, fontSize=11, align="right").encode(x, y, text="arm:N")
    words = "; ".join(f"{row.arm} at {row.bits:.2f} bits: {getattr(row, column):.3f}" for row in lines.itertuples())
    chart = alt.layer(curve, grey, names)
    return finish(chart, f"{title[0].upper()}{title[1:]}, by budget", f"{title} by bits: {words}.")


def race(arms: pd.DataFrame, column: str = "facts", title: str = "loss of answers, nats") -> alt.LayerChart:
    """All allocations of one budget: a point each, random draws as ticks; `arms` of `edition` at that budget."""
    means = arms.groupby("arm")[column].mean().sort_values()
    order = list(means.index)
    x = alt.X(f"{column}:Q", title=title, scale=alt.Scale(zero=False))
    y = alt.Y("arm:N", title=None, sort=order)
    drawn = arms["arm"].isin(["random", "shuffled"])
    tips = ["arm", "draw", alt.Tooltip(column, format=".3f")]
    points = alt.Chart(arms[~drawn]).mark_point(size=80, filled=True, color=palette.NEUTRAL).encode(x, y, tooltip=tips)
    ticks = alt.Chart(arms[drawn]).mark_tick(thickness=2, opacity=0.6, color=palette.CONTROL).encode(x, y, tooltip=tips)
    words = "; ".join(f"{name}: {value:.3f}" for name, value in means.items())
    return finish(
        alt.layer(points, ticks), "Equal bits, differently spent",
        f"{title} of test facts by allocation, best first (of random ones the mean): {words}.", height=24 * len(order),
    )  # fmt: skip


def widths(given: pd.DataFrame) -> alt.Chart:
    """Who gets which bits: a cell a unit; rows: layer, module, bits."""
    held = sorted(given["bits"].unique(), reverse=True)
    modules = list(dict.fromkeys(given["module"]))
    counts = given["bits"].value_counts().sort_index(ascending=False)
    words = "; ".join(f"{bits} bits: {count} units" for bits, count in counts.items())
    chart = alt.Chart(given).mark_rect().encode(
        alt.X("layer:O"), alt.Y("module:N", title=None, sort=modules),
        alt.Color("bits:N", scale=palette.scale(held), legend=SHORT), tooltip=["layer", "module", "bits"],
    )  # fmt: skip
    return finish(chart, "Who gets which bits", f"Bits by unit: {words}.", height=max(60, 26 * len(modules)))
