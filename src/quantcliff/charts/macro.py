"""Charts of the macro table and of a weight row that is rounded."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.palette import FULL as GREY
from quantcliff.charts.palette import FULL_NAME
from quantcliff.charts.row import Row
from quantcliff.charts.theme import bits_color, decades, finish, intervals, lines, method_color, models, reference
from quantcliff.stages.macro import BUCKETS
from quantcliff.study import FULL

PERCENT = alt.Axis(format="%")
SHARE = [
    alt.Tooltip("method"), alt.Tooltip("bits"), alt.Tooltip("estimate", format=".1%", title="share"),
    alt.Tooltip("low", format=".1%", title="from"), alt.Tooltip("high", format=".1%", title="to"),
    alt.Tooltip("n", title="prompts"),
]  # fmt: skip


def select(table: pd.DataFrame, measure: str, part: str | None = None, split: str = "group") -> pd.DataFrame:
    """Rows of one measure, of one set of prompts (None: of all sets of that split)."""
    rows = table[(table["measure"] == measure) & (table["split"] == split)]
    return rows if part is None else rows[rows["part"] == part]


def bits_axis(table: pd.DataFrame) -> alt.X:
    widths = sorted({int(value) for value in table["bits"]}, reverse=True)
    return alt.X("bits:N", title="bits per weight", scale=alt.Scale(domain=widths))


def rounding(table: pd.DataFrame) -> Row:
    """One piece of a weight row, as it is and on the grid: one chart per bit width, on one scale.

    Args:
        table: columns position, weight (before rounding), rounded, bits; one row per position and bit width.
    """
    ends = [float(end) for column in ("weight", "rounded") for end in (table[column].min(), table[column].max())]
    scale = alt.Scale(domain=[min(ends), max(ends)])
    tips = [alt.Tooltip("position"), alt.Tooltip("weight", format=".4f"), alt.Tooltip("rounded", format=".4f")]
    made = []
    for bits, rows in table.groupby("bits", sort=False):
        base = alt.Chart(rows).encode(x=alt.X("position:Q", title="position in the row"))
        grid = base.mark_line(interpolate="step", strokeWidth=1.5, color=palette.color(int(bits)) or GREY)
        own = alt.Y("weight:Q", title="weight", scale=scale)
        points = base.mark_point(size=20, color=GREY).encode(y=own, tooltip=tips)
        description = (
            f"{len(rows)} weights of one row as points, and a step line with their values at {bits} bits, which has "
            f"{rows['rounded'].nunique()} different heights here."
        )
        layers = alt.layer(grid.encode(y=alt.Y("rounded:Q", title="weight", scale=scale)), points)
        made.append(finish(layers, f"{bits} bits", description, height=200))
    return Row(made, least=260)


def accuracy(table: pd.DataFrame, part: str = "known") -> alt.LayerChart:
    """Accuracy by bits and method with 95% intervals, and full precision as a dashed line."""
    rows = select(table, "accuracy", part)
    full, rows = rows[rows["method"] == FULL], rows[rows["method"] != FULL]
    y = alt.Y("estimate:Q", title="answered right", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    chart = intervals(rows, bits_axis(rows), y, method_color(rows), offset="method", tooltip=SHARE)
    whole = alt.layer(chart, reference(float(full["estimate"].iloc[0]), FULL_NAME, side="right"))
    worst = rows.loc[rows["estimate"].idxmin()]
    return finish(
        whole,
        "Right answers by bits and method",
        f"Points with 95% intervals, bits from most to least on the horizontal axis, one colour per method; a dashed "
        f"line marks full precision. The lowest point is {worst['method']} at {worst['bits']} bits with "
        f"{worst['estimate']:.0%}.",
    )


def ranks(table: pd.DataFrame, part: str = "known") -> alt.Chart:
    """Where the right answer stands in each model's list: shares of rank buckets, one bar per method and bits."""
    rows = pd.concat(
        [select(table, f"rank {name}", part).assign(rank=_rank(name)) for name in BUCKETS], ignore_index=True
    )
    rows["order"] = rows["rank"].map({_rank(name): number for number, name in enumerate(BUCKETS)})
    rows["model"] = models(rows)
    chart = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            y=alt.Y("model:N", title=None, sort=list(dict.fromkeys(rows["model"]))),
            x=alt.X("estimate:Q", title="share of prompts", axis=PERCENT, stack="zero", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("rank:N", title="rank of the answer", scale=palette.scale(map(_rank, BUCKETS))),
            order="order:Q",
            tooltip=["model", "rank", alt.Tooltip("estimate", format=".1%", title="share"), "n"],
        )
    )
    return finish(
        chart,
        "Where the right answer stands",
        "One horizontal bar per model, divided by the rank of the right answer: first, 2 to 5, 6 to 100, 101 to 1,000, "
        "above 1,000. A rank drop shows as a share at 2 to 5, a rank collapse as shares beyond 100.",
        height=24 * rows["model"].nunique(),
    )


def _rank(bucket: str) -> str:
    return f"rank {bucket}" if bucket.isdigit() else bucket


def median_rank(table: pd.DataFrame, method: str | None = None) -> alt.LayerChart:
    """Median rank of the answer by bits (logarithmic), for robust and failure facts of one method (None: the first)."""
    rows = select(table, "rank_median")
    rows = rows[(rows["method"] != FULL) & rows["part"].isin(["robust", "failure"])].dropna(subset="estimate")
    method = method or rows["method"].iloc[0]
    rows = rows[rows["method"] == method]
    axis = decades(rows["estimate"], rows["low"], rows["high"])
    y = alt.Y("estimate:Q", title="median rank", scale=alt.Scale(type="log"), axis=axis)
    tips = ["part", "bits", alt.Tooltip("estimate", format=",.0f", title="median rank"), "low", "high", "n"]
    part = alt.Color("part:N", title="facts", scale=palette.scale(["robust", "failure"]))
    return finish(
        intervals(rows, bits_axis(rows), y, part, offset="part", tooltip=tips),
        f"Median rank of the answer, {method}",
        f"Median rank on a logarithmic axis with 95% intervals, by bits, for robust facts (the 4-bit model, or the "
        f"reader's own, answers them) and failure facts (it does not). The highest is {rows['estimate'].max():,.0f}.",
    )


def bands(table: pd.DataFrame, method: str | None = None) -> alt.LayerChart:
    """Share of known facts that survive by popularity fifth, for one method (None: the first)."""
    rows = select(table, "accuracy", split="band")
    rows = rows[rows["method"] != FULL]
    method = method or (rows["method"].iloc[0] if len(rows) else "")
    rows = rows[rows["method"] == method].assign(band=lambda t: t["part"].astype(int) + 1)
    y = alt.Y("estimate:Q", title="still answered right", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    x = alt.X("band:O", title="popularity fifth (1 = most popular)")
    return finish(
        lines(rows, x, y, bits_color(rows), tooltip=["band", *SHARE]),
        f"Popular and rare facts, {method}",
        "Share of full precision's right answers that survive, by popularity fifth from the most to the least popular "
        "facts, one line with a 95% band per bit width.",
    )


def relations(table: pd.DataFrame, method: str | None = None) -> alt.Chart:
    """Share of known facts that survive by relation, for one method (None: the first)."""
    rows = select(table, "accuracy", split="relation")
    rows = rows[rows["method"] != FULL]
    method = method or rows["method"].iloc[0]
    rows = rows[rows["method"] == method]
    order = rows.groupby("part")["estimate"].mean().sort_values(ascending=False).index.tolist()
    chart = (
        alt.Chart(rows)
        .mark_point()
        .encode(
            y=alt.Y("part:N", title=None, sort=order),
            x=alt.X("estimate:Q", title="still answered right", axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
            color=bits_color(rows),
            tooltip=[alt.Tooltip("part", title="relation"), *SHARE],
        )
    )
    return finish(
        chart,
        f"Relation by relation, {method}",
        f"{len(order)} relations, one row each, with a point per bit width at the share of full precision's right "
        f"answers that survive; the best-kept relation, {order[0]}, is at the top, {order[-1]} at the bottom.",
        height=max(120, 18 * len(order)),
    )


def perplexity(table: pd.DataFrame) -> alt.LayerChart:
    """Perplexity of running text by bits and method, logarithmic, and full precision as a dashed line."""
    rows = select(table, "perplexity", split="text").dropna(subset="estimate")
    full, rows = rows[rows["method"] == FULL], rows[rows["method"] != FULL]
    axis = decades(rows["low"], rows["high"], full["estimate"])
    y = alt.Y("estimate:Q", title="perplexity", scale=alt.Scale(type="log"), axis=axis)
    tips = ["method", "bits", *(alt.Tooltip(name, format=",.1f") for name in ("estimate", "low", "high")), "n"]
    chart = intervals(rows, bits_axis(rows), y, method_color(rows), offset="method", tooltip=tips)
    value = float(full["estimate"].iloc[0])
    return finish(
        alt.layer(chart, reference(value, FULL_NAME)),
        "Perplexity of running text",
        f"Perplexity on a logarithmic axis with 95% intervals, by bits and method; the dashed line at {value:,.1f} is "
        f"full precision, the highest point is {rows['estimate'].max():,.0f}.",
    )
