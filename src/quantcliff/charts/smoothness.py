"""Charts of smoothness: measures by bits beside full precision, slopes by radius, Jacobians by depth, correlations."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.palette import FULL, METHODS
from quantcliff.charts.theme import bits_color, decades, finish, intervals, lines, method_color, reference

PERCENT = alt.Axis(format="%")


def _tips(*names: str) -> list[str | alt.Tooltip]:
    return [*names, *(alt.Tooltip(name, format=".2f") for name in ("estimate", "low", "high"))]


def _words(rows: pd.DataFrame, over: str = "bits") -> str:
    """`"gptq at 8 1.00, at 4 .98; rtn ..."`"""
    parts = []
    for method, part in rows.groupby("method", sort=False):
        parts.append(f"{method} {', '.join(f'at {row[over]:g} {row.estimate:.2f}' for _, row in part.iterrows())}")
    return "; ".join(parts)


def chosen(
    table: pd.DataFrame, measure: str, part: str, twin: str, at: float | None = None, ratio: bool = True
) -> pd.DataFrame:
    """Rows of `measure`'s table for one measure of all quantized models; `ratio`: beside full precision's mean."""
    same = (table["measure"] == measure) & (table["part"] == part) & (table["twin"] == twin)
    same &= table["method"].isin(list(METHODS))
    rows = table[same if at is None else same & ((table["at"] - at).abs() < 1e-9)]
    if ratio:
        rows = rows.assign(estimate=rows["ratio"], low=rows["ratio_low"], high=rows["ratio_high"])
    return rows[["variant", "method", "bits", "at", "estimate", "low", "high", "n"]]


def by_bits(rows: pd.DataFrame, title: str, axis: str, at_full: float | None = 1.0) -> alt.LayerChart:
    """One measure by bits, a colour a method; `chosen`'s rows."""
    widths = sorted(rows["bits"].unique(), reverse=True)
    chart = intervals(
        rows, alt.X("bits:O", title="bits", sort=widths), alt.Y("estimate:Q", title=axis, scale=alt.Scale(zero=False)),
        method_color(rows), offset="method", tooltip=_tips("variant"),
    )  # fmt: skip
    if at_full is not None:
        chart = alt.layer(chart, reference(at_full, "full precision", "right"))
    return finish(chart, title, f"{axis}, by bits and method: {_words(rows)}.", height=220)


def slopes(table: pd.DataFrame, method: str, twin: str) -> alt.LayerChart:
    """Finite slopes over the length of the step, a line a width, beside full precision's."""
    rows = table[(table["measure"] == "slope") & (table["twin"] == twin) & (table["method"] == method)]
    full = table[(table["measure"] == "slope") & (table["method"] == "full")]
    log, drawn = alt.Scale(type="log"), pd.concat([rows, full])
    x = alt.X("at:Q", title="step, in mean embedding norms", scale=log, axis=decades(drawn["at"]))
    y = alt.Y("estimate:Q", title="slope, nats per norm", scale=log, axis=decades(drawn["low"], drawn["high"]))
    dashed = alt.Chart(full).mark_line(color=FULL, strokeDash=[4, 4]).encode(x=x, y=y)
    words = "; ".join(
        f"{bits} bits {', '.join(f'{row.estimate:.3g}' for row in part.itertuples())}"
        for bits, part in rows.groupby("bits", sort=False)
    )
    return finish(
        alt.layer(lines(rows, x, y, bits_color(rows), tooltip=_tips("bits", "at")), dashed),
        f"How far a step in the input moves predictions ({method})",
        f"Finite slope over step lengths from .01 to 1, {method}, full precision dashed: {words}; "
        f"full precision {', '.join(f'{row.estimate:.3g}' for row in full.itertuples())}.", height=240,
    )  # fmt: skip


def by_depth(table: pd.DataFrame, method: str, part: str) -> alt.LayerChart:
    """Jacobian norm from every layer to the last beside full precision's, a line a width."""
    rows = table[(table["measure"] == "jacobian") & (table["part"] == part) & (table["method"] == method)]
    rows = rows[rows["twin"] == "plain"].astype({"at": int})
    rows = rows.assign(estimate=rows["ratio"], low=rows["ratio_low"], high=rows["ratio_high"])
    words = "; ".join(f"{bits} bits: {own['estimate'].iloc[0]:.2f} from the first layer" for bits, own in
                      rows.groupby("bits", sort=False))  # fmt: skip
    chart = lines(
        rows, alt.X("at:O", title="layer"), alt.Y("estimate:Q", title="beside full precision"), bits_color(rows),
        tooltip=_tips("bits", "at"),
    )  # fmt: skip
    return finish(
        alt.layer(chart, reference(1.0, "full precision", "right")),
        f"Jacobian norm from each layer to the last ({method})",
        f"Relative Jacobian norm over full precision's, by layer, {method}: {words}.", height=220,
    )  # fmt: skip


def tree(table: pd.DataFrame, bits: int, twin: str) -> alt.LayerChart:
    """Nodes of the decoding tree by depth beside full precision's, a line a method."""
    rows = table[(table["measure"] == "nodes") & (table["twin"] == twin) & (table["bits"] == bits)].astype({"at": int})
    rows = rows.assign(estimate=rows["ratio"], low=rows["ratio_low"], high=rows["ratio_high"])
    chart = lines(
        rows, alt.X("at:O", title="depth"), alt.Y("estimate:Q", title="nodes beside full precision"),
        method_color(rows), tooltip=_tips("method", "at"),
    )  # fmt: skip
    return finish(
        alt.layer(chart, reference(1.0, "full precision")), f"Nodes of the decoding tree, {bits} bits, {twin}",
        f"Nodes by depth over full precision's, {twin}, {bits} bits: {_words(rows, 'at')}.", height=220,
    )  # fmt: skip


GIVEN = ("nothing", "divergence", "all errors")


def correlations(found: pd.DataFrame, called: dict[str, str]) -> alt.LayerChart:
    """Rank correlations with answers kept, of every number, given nothing and given errors; `beyond.table`'s rows."""
    rows = found.assign(name=found["number"].map(lambda name: called.get(name, name)))
    color = alt.Color("given:N", scale=palette.scale(GIVEN), legend=alt.Legend(columns=2, orient="top", title="given"))
    words = "; ".join(
        f"{name}, given {given}: {estimate:.2f} ({low:.2f} to {high:.2f})"
        for name, given, estimate, low, high in rows[["name", "given", "estimate", "low", "high"]].itertuples(
            index=False
        )
    )
    base = alt.Chart(rows).encode(
        y=alt.Y("name:N", title=None, sort=None), color=color, yOffset=alt.YOffset("given:N", sort=list(GIVEN))
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="rank correlation with answers kept", scale=alt.Scale(domain=[-1, 1])), x2="high:Q"
    )
    points = base.mark_point(size=60).encode(x="estimate:Q", tooltip=_tips("name", "given"))
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(strokeDash=[4, 4], opacity=0.6).encode(x="x:Q")
    return finish(
        alt.layer(zero, bars, points), "What is left of a number when error is given",
        f"Spearman correlation with the share of answers kept, 99% intervals: {words}.", height=300,
    )  # fmt: skip
