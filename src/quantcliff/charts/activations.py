"""Charts of activations: what each way of quantizing keeps, what it does to attention, repairs, and tasks by bits."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.theme import SHORT, bits_color, finish, lines, reference

PERCENT = alt.Axis(format="%")

FAMILIES = {
    "weights": ("weights", "rounded"), "inputs": ("inputs", "by token"), "inputs, static": ("inputs", "by tensor"),
    "cache": ("keys and values", "by token"), "cache, KIVI": ("keys and values", "keys by channel"),
}  # fmt: skip
DASHES = {"inputs, static": [5, 3], "cache, KIVI": [5, 3]}
"""Lines of families that share a colour; the others are whole."""


def _of(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    return table[table["measure"] == measure].drop(columns="measure")


def kept(table: pd.DataFrame, model: str = "this model") -> alt.LayerChart:
    """Answers kept over bits, a line for each of `FAMILIES`; `measure`'s table."""
    rows = _of(table, "kept")
    parts = [
        rows[(rows["what"] == what) & (rows["how"] == how)].assign(family=name)
        for name, (what, how) in FAMILIES.items()
    ]
    shown = pd.concat(parts).sort_values("bits", ascending=False)
    names = [name for name in FAMILIES if name in set(shown["family"])]
    dashes = alt.Scale(domain=names, range=[DASHES.get(name, [1, 0]) for name in names])
    legend = alt.Legend(columns=3, symbolType="stroke", symbolSize=300)
    words = "; ".join(f"{row.family} at {row.bits} bits {row.estimate:.0%}" for row in shown.itertuples())
    tips = ["way", "how", "bits", *(alt.Tooltip(name, format=".1%") for name in ("estimate", "low", "high"))]
    chart = lines(
        shown, alt.X("bits:O", sort="descending"),
        alt.Y("estimate:Q", title="answers kept", axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
        alt.Color("family:N", title=None, scale=palette.scale(names), legend=legend), tooltip=tips,
        dash=alt.StrokeDash("family:N", title=None, scale=dashes),
    )  # fmt: skip
    return finish(
        chart,
        f"What {model} keeps, by what is quantized",
        f"Share of full precision's right answers kept: {words}.", height=165,
    )  # fmt: skip


KINDS = ("weights", "inputs", "keys", "values")


def attention(table: pd.DataFrame) -> alt.LayerChart:
    """How far attention's pattern is off over how far its output is, a point for each way; `measure`'s table."""
    wide = table[table["what"].isin(list(KINDS))].pivot(
        index=["way", "what", "how", "bits"], columns="measure", values="estimate"
    )
    rows = wide.reset_index().rename(columns={"miss, in place": "miss", "jsd, in place": "jsd"})
    tips = ["way", "how", alt.Tooltip("miss", format=".3f"), alt.Tooltip("jsd", format=".3f")]
    base = alt.Chart(rows).encode(
        alt.X("miss:Q", title="1 - cosine of attention's output"),
        alt.Y("jsd:Q", title="divergence of attention's pattern, bits"),
    )
    points = base.mark_point(filled=True, size=55, opacity=0.8).encode(
        alt.Color("what:N", title=None, scale=palette.scale(KINDS), legend=SHORT), tooltip=tips
    )
    far = rows[(rows["miss"] > 0.15) & ~rows["way"].str.contains("-first")]
    labels = (
        alt.Chart(far)
        .encode(base.encoding.x, base.encoding.y)
        .mark_text(align="right", dx=-7, fontSize=10)
        .encode(text="way:N")
    )
    words = "; ".join(f"{row.way} {row.jsd:.2f} and {row.miss:.2f}" for row in far.itertuples())
    return finish(
        alt.layer(points, labels), "Where attention looks, and what it brings",
        f"Divergence of attention's pattern and one minus the cosine of its output, a point for each way: {words}.",
        height=180,
    )  # fmt: skip


def repairs(table: pd.DataFrame, ways: list[str], model: str = "this model") -> alt.LayerChart:
    """Answers kept by some ways beside each other, with intervals; `measure`'s table."""
    rows = _of(table, "kept").set_index("way").loc[ways].reset_index()
    words = "; ".join(f"{row.way} {row.estimate:.0%}" for row in rows.itertuples())
    color = alt.Color("what:N", title=None, scale=palette.scale(dict.fromkeys(rows["what"])), legend=SHORT)
    tips = ["way", "how", *(alt.Tooltip(name, format=".1%") for name in ("estimate", "low", "high"))]
    share = alt.X("estimate:Q", title="answers kept", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    base = alt.Chart(rows).encode(alt.Y("way:N", title=None, sort=None, axis=alt.Axis(labelLimit=130)), color=color)
    bars = base.mark_rule(strokeWidth=2).encode(alt.X("low:Q", title="answers kept"), x2="high:Q")
    return finish(
        alt.layer(bars, base.mark_point(size=60).encode(share, tooltip=tips)), f"What brings answers of {model} back",
        f"Share of full precision's right answers kept: {words}.", height=20 * len(rows) + 10,
    )  # fmt: skip


def tasks(falls: pd.DataFrame) -> alt.LayerChart:
    """Share of full precision's right answers kept in each task, a point for each width; `tasks.falls`."""
    named = falls["task"].where(falls["task"].str.startswith("tasks:"), "recall of facts").str.removeprefix("tasks:")
    rows = falls.assign(task=named)[falls["variant"] != "full"]
    names = list(dict.fromkeys(rows["task"]))
    words = "; ".join(f"{row.task} at {row.bits} bits {row.kept:.0%}" for row in rows.itertuples())
    tips = ["task", "bits", *(alt.Tooltip(name, format=".1%") for name in ("kept", "kept_low", "kept_high"))]
    base = alt.Chart(rows).encode(
        y=alt.Y("task:N", title=None, sort=names), yOffset=alt.YOffset("bits:N", sort="descending"),
        color=bits_color(rows),
    )  # fmt: skip
    x = alt.X("kept:Q", title="answers kept", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    bars = base.mark_rule(strokeWidth=2).encode(alt.X("kept_low:Q", title="answers kept"), x2="kept_high:Q")
    return finish(
        alt.layer(bars, base.mark_point(size=60).encode(x, tooltip=tips)), "Recall and computation, by bits",
        f"Share of full precision's right answers that plainly rounded weights keep: {words}.", height=26 * len(names),
    )  # fmt: skip


def sinks(tables: pd.DataFrame) -> alt.LayerChart:
    """Share of the first token's stream in its largest channel, layer by layer, a line a model; `massive.measure`'s
    tables with a column model."""
    rows = tables[tables["measure"] == "first"].assign(
        depth=lambda t: t["layer"] / t.groupby("model")["layer"].transform("max")
    )
    names = list(dict.fromkeys(rows["model"]))
    means = rows.groupby("model", sort=False)["estimate"].max()
    words = "; ".join(f"{name} {value:.0%} at most" for name, value in means.items())
    chart = lines(
        rows, alt.X("depth:Q", title="depth (0 first layer, 1 last)", axis=alt.Axis(tickCount=5)),
        alt.Y("estimate:Q", title="share in the largest channel", axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
        alt.Color("model:N", title=None, scale=palette.scale(names), legend=SHORT),
        tooltip=["model", "layer", alt.Tooltip("estimate", format=".1%")],
    )  # fmt: skip
    return finish(
        alt.layer(chart, reference(0.5, "massive")), "Massive activations at the first token",
        f"Share of the first token's squared norm in its largest channel: {words}.", height=180,
    )  # fmt: skip
