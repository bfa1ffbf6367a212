"""Charts of the patching tables: where in the network the answer comes back, or goes.

Axes of shares fit what is drawn, 0 included; a control that lies beyond them is cut off, not drawn at the edge.
"""

from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.palette import FULL_NAME, UNROUNDED
from quantcliff.charts.row import Row
from quantcliff.charts.theme import bits_color, decades, finish, lines, models, reference
from quantcliff.study import FULL

LAYER = alt.X("layer:Q", title="patched layer", axis=alt.Axis(tickMinStep=1, format="d"))
TITLES = {
    "interaction": "interaction",
    "interaction_probability": "interaction (probability)",
    "regained": "lost answers that are back",
    "recovery": "recovery",
    "accuracy": "answered right",
    "rank": "median rank",
}
PLACES = {
    "last_subject": "the last subject token",
    "subject": "the whole subject",
    "last": "the last token",
    "all": "all tokens",
}
PARTS = {"attn_out": "attention", "mlp_out": "FFN", "resid_post": "whole stream"}
DONORS = {
    "own": "the right fact",
    "other": "another fact",
    "failure": "another, lost too",
    "popular": "another, as popular",
    "quantized": "another, read quantized",
}
"""Kinds of donor (`stages.patching.donors`), and what charts call them."""

TIPS = [
    alt.Tooltip("bits"), alt.Tooltip("layer", title="first patched layer"),
    *(alt.Tooltip(name, format=".3~g") for name in ("estimate", "low", "high")), alt.Tooltip("n", title="prompts"),
]  # fmt: skip


def select(
    table: pd.DataFrame,
    measure: str = "regained",
    *,
    group: str = "failure",
    direction: str = "forward",
    method: str | None = None,
    **where: object,
) -> pd.DataFrame:
    """Rows of one measure, group and direction, of one method (None: the first); `where` gives further columns' values.

    Rows without an estimate (nothing to recover) are left out, so that the result may be empty.
    """
    wanted = {"measure": measure, "group": group, "direction": direction, **where}
    rows = table[table["method"] == (method or table["method"].iloc[0])]
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    return rows.dropna(subset="estimate")


def _title(measure: str, direction: str) -> str:
    gone = {"regained": "answers that are gone", "recovery": "damage carried over"}
    return gone.get(measure, TITLES[measure]) if direction == "reverse" else TITLES[measure]


def _y(rows: pd.DataFrame, measure: str, direction: str = "forward") -> alt.Y:
    """The axis of a measure: a share from the least to the most that `rows` hold, 0 included, -50% to 120% at most."""
    y = alt.Y("estimate:Q", title=_title(measure, direction))
    if measure == "rank":
        return y.scale(type="log").axis(decades(rows["low"], rows["high"]))
    least, most = max(-0.5, min(0, rows["low"].min())), min(1.2, max(0.05, rows["high"].max()))
    limits = [least, most] if len(rows) else [0, 1]
    return y.axis(format="%").scale(domain=limits, clamp=True, nice=True)


def by_layer(
    table: pd.DataFrame,
    measure: str = "regained",
    *,
    kind: str = "resid_post",
    positions: str = "all",
    group: str = "failure",
    direction: str = "forward",
    method: str | None = None,
    title: str = "",
) -> alt.LayerChart:
    """One line per bit width over the patched layer; dashed lines are the control, where it was run.

    `title` stands in place of one that says all of this.
    """
    chosen: dict[str, Any] = {
        "kind": kind,
        "positions": positions,
        "group": group,
        "direction": direction,
        "method": method,
    }
    rows = select(table, measure, donor="same", window=1, **chosen)
    control = select(table, measure, donor="other", window=1, **chosen)
    color, y = bits_color(rows), _y(rows, measure, direction)
    if len(rows) and measure != "rank":
        control = control[control["estimate"] >= min(0, rows["low"].min())]
    dashed = alt.Chart(control).mark_line(strokeDash=[4, 3], strokeWidth=1.5)
    dashed = dashed.encode(x=LAYER, y=y, color=color, tooltip=TIPS)
    into = "the quantized model" if direction == "forward" else "full precision"
    what, where = PARTS[kind], PLACES[positions]
    return finish(
        alt.layer(lines(rows, LAYER, y, color, tooltip=TIPS), *([dashed] if len(control) else [])),
        title or f"Into {into}: {what} at {where}, {group} facts",
        f"{_title(measure, direction).capitalize()} when the {what} of {into} is replaced at {where}, by patched "
        "layer from bottom to top, one line with a 95% band per bit width"
        f"{', dashed for the activation of another fact' if len(control) else ''}. {_ends(rows)}",
        height=200,
    )


def interaction(
    table: pd.DataFrame, measure: str = "interaction", *, group: str = "failure", method: str | None = None
) -> alt.LayerChart:
    """Interaction of the layers below a cut and those above it, one line per bit width."""
    rows = select(table, measure, group=group, direction="both", method=method)
    rows = rows[rows["layer"] < rows["layer"].max()]
    cut = LAYER.copy().title("cut after layer")
    return finish(
        alt.layer(
            lines(rows, cut, _y(rows, measure), bits_color(rows), tooltip=TIPS), reference(0.0, "adds up", side="right")
        ),
        f"{group.capitalize()} facts",
        f"Interaction of the layers below and above a cut, {group} facts, by the layer of the cut, one line with a 95% "
        "band per bit width; a dashed line marks 0, where damage adds up. Largest: "
        + _listed(f"{bits} bits {line['estimate'].max():.0%}" for bits, line in rows.groupby("bits", sort=False)),
        height=200,
    )


def _ends(rows: pd.DataFrame) -> str:
    """The first and last layer of every line in words."""
    spans = []
    for bits, line in rows.groupby("bits", sort=False):
        line = line.sort_values("layer")
        spans.append(f"{bits} bits from {line['estimate'].iloc[0]:.2g} to {line['estimate'].iloc[-1]:.2g}")
    return _listed(spans)


def _listed(parts: Iterable[str]) -> str:
    return ("; ".join(parts) or "nothing was lost") + "."


def _panels(rows: pd.DataFrame, by: str, names: dict[str, str], measure: str, said: str, dash: bool = False) -> Row:
    """Lines coloured by a column, one panel per bit width, all on one scale; `said` begins each description."""
    rows = rows.assign(line=rows[by].map(names))
    rows["layers"] = rows["window"].map(lambda width: "one layer" if width == 1 else f"{width} in a row")
    color, y = _named(names, rows[by]), _y(rows, measure)
    tips = [alt.Tooltip("line", title="patched"), *TIPS]
    made = []
    for bits, mine in rows.groupby("bits", sort=False) if len(rows) else [("", rows)]:
        chart = lines(mine, LAYER, y, color, tooltip=tips)
        if dash:
            style = alt.StrokeDash("layers:N", title=None, sort=["one layer"], legend=alt.Legend(orient="bottom"))
            base = alt.Chart(mine).encode(x=LAYER, color=color, detail="layers:N", tooltip=tips)
            chart = alt.layer(base.mark_line(point=True).encode(y=y, strokeDash=style))
        best = f"{said} at {bits} bits. Best layer of each: {_best(mine, by, names)}"
        made.append(finish(chart, f"{bits} bits", best, height=200))
    return Row(made)


def by_position(
    table: pd.DataFrame, measure: str = "regained", *, group: str = "failure", method: str | None = None
) -> Row:
    """The residual stream patched at each kind of position, one panel per bit width."""
    rows = select(table, measure, group=group, method=method, kind="resid_post", donor="same", window=1)
    said = (
        f"{TITLES[measure].capitalize()} of {group} facts by patched layer, one line with a 95% band per kind of token,"
    )
    return _panels(rows, "positions", PLACES, measure, said)


def by_part(
    table: pd.DataFrame,
    measure: str = "regained",
    *,
    positions: str = "all",
    group: str = "failure",
    method: str | None = None,
) -> Row:
    """Attention and FFN output patched alone, in one layer or several in a row, one panel per bit width."""
    rows = select(table, measure, group=group, method=method, positions=positions, donor="same")
    rows = rows[rows["kind"].isin(["attn_out", "mlp_out"])]
    said = (
        f"{TITLES[measure].capitalize()} of {group} facts when only attention's or the FFN's output is replaced at "
        f"{PLACES[positions]}, by first patched layer, dashed for windows of several layers,"
    )
    return _panels(rows, "kind", PARTS, measure, said, dash=True)


def donors(table: pd.DataFrame) -> Row:
    """Gain of the answer's probability by patched layer, a line per kind of donor; failures beside robust facts.

    Args:
        table: from `stages.patching.donors`.
    """
    rows = table[(table["measure"] == "gain") & table["layer"].notna()]
    rows = rows.assign(line=rows["donor"].map(DONORS))
    color = _named(DONORS, rows["donor"])
    y = alt.Y("estimate:Q", title="gain in probability", axis=alt.Axis(format="+.0%"))
    tips = [alt.Tooltip("line", title="donor"), *TIPS[1:]]
    made = []
    for group, mine in rows.groupby("group", sort=False):
        first = mine[mine["layer"] == mine["layer"].min()]
        listed = _listed(f"{row['line']} {row['estimate']:+.1%}" for row in first.to_dict("records"))
        description = (
            f"Gain in the answer's probability when the last token of {group} facts is replaced, by patched layer, one "
            f"line with a 95% band per kind of donor. After the first layer: {listed}"
        )
        made.append(finish(lines(mine, LAYER, y, color, tooltip=tips), f"{group.capitalize()} facts", description, 200))
    return Row(made, least=300)


def _named(names: dict[str, str], held: pd.Series) -> alt.Color:
    """Colour of the column `line`, in the order of `names`, of those keys that the table holds."""
    shown = [name for key, name in names.items() if key in set(held)]
    return alt.Color("line:N", title=None, scale=palette.scale(shown), legend=alt.Legend(columns=1))


def _best(rows: pd.DataFrame, by: str, names: dict[str, str]) -> str:
    top = rows.loc[rows.groupby(["bits", by], sort=False)["estimate"].idxmax()]
    return _listed(f"{row['bits']} bits, {names[row[by]]} {row['estimate']:.0%}" for row in top.to_dict("records"))


def necessity(table: pd.DataFrame, positions: str = "last", method: str | None = None) -> alt.LayerChart:
    """Dependence on each block, full precision in grey and one line per bit width (`stages.patching.necessity`)."""
    method = method or next((name for name in table["method"] if name != FULL), FULL)
    rows = table[table["method"].isin([FULL, method]) & (table["measure"] == "dependence")]
    rows = rows[rows["positions"] == positions]
    y, where = alt.Y("estimate:Q", title="margin lost, in nats"), PLACES[positions]
    layer = LAYER.copy().title("silenced layer")
    peaks = [
        f"{FULL_NAME if int(bits) >= UNROUNDED else f'{bits} bits'} {line['estimate'].max():.2g} at layer "
        f"{line.loc[line['estimate'].idxmax(), 'layer']}"
        for bits, line in rows.groupby("bits", sort=False)
    ]
    return finish(
        lines(rows.assign(model=models(rows)), layer, y, bits_color(rows), tooltip=["model", *TIPS[1:]]),
        f"One layer silenced at {where}",
        f"Nats that the right answer loses over another fact's when one layer is silenced at {where}, by layer from "
        f"bottom to top, one line with a 95% band per bit width, full precision grey. Largest: {_listed(peaks)}",
    )
