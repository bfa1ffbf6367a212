"""Charts of the patching table: where in the network the answer comes back, or goes.

Recovery and interaction are drawn from -50% to 120%; what lies beyond (the control, where little was lost) at the edge.
"""

from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from quantcliff.charts.theme import NEUTRAL, bits_color, finish, lines, reference
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
    "last_subject": ("the last subject token", "#b8741a"),
    "subject": ("the whole subject", "#d1495b"),
    "last": ("the last token", "#2f7fd1"),
    "all": ("all tokens", "#16937a"),
}
PARTS = {
    "attn_out": ("attention", "#7570b3"),
    "mlp_out": ("FFN", "#c8489a"),
    "resid_post": ("whole stream", NEUTRAL),
}
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


def _y(measure: str, direction: str = "forward") -> alt.Y:
    y = alt.Y("estimate:Q", title=_title(measure, direction))
    if measure == "rank":
        return y.scale(type="log")
    limits = [-0.5, 1.2] if measure.startswith(("recovery", "interaction")) else [0, 1]
    return y.axis(format="%").scale(domain=limits, clamp=True)


def by_layer(
    table: pd.DataFrame,
    measure: str = "regained",
    *,
    kind: str = "resid_post",
    positions: str = "all",
    group: str = "failure",
    direction: str = "forward",
    method: str | None = None,
) -> alt.LayerChart:
    """One line per bit width over the patched layer; dashed lines are the control, where it was run."""
    chosen: dict[str, Any] = {
        "kind": kind,
        "positions": positions,
        "group": group,
        "direction": direction,
        "method": method,
    }
    rows = select(table, measure, donor="same", window=1, **chosen)
    control = select(table, measure, donor="other", window=1, **chosen)
    color, y = bits_color(rows), _y(measure, direction)
    dashed = alt.Chart(control).mark_line(strokeDash=[4, 3], strokeWidth=1.5)
    dashed = dashed.encode(x=LAYER, y=y, color=color, tooltip=TIPS)
    into = "the quantized model" if direction == "forward" else "full precision"
    what, where = PARTS[kind][0], PLACES[positions][0]
    return finish(
        alt.layer(lines(rows, LAYER, y, color, tooltip=TIPS), *([dashed] if len(control) else [])),
        f"Into {into}: {what} at {where}, {group} facts",
        f"{_title(measure, direction).capitalize()} when the {what} of {into} is replaced at {where}, by patched "
        "layer from bottom to top, one line with a 95% band per bit width"
        f"{', dashed for the activation of another fact' if len(control) else ''}. {_ends(rows)}",
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
            lines(rows, cut, _y(measure), bits_color(rows), tooltip=TIPS),
            reference(0.0, "damage adds up"),
            reference(1.0, "either part does it all"),
        ),
        f"Does the damage add up? {group.capitalize()} facts",
        "Interaction of the layers below and above a cut, by the layer of the cut, one line with a 95% band per bit "
        "width; dashed lines mark 0, where damage adds up, and 1, where either part alone does all of it. Largest: "
        + _listed(f"{bits} bits {line['estimate'].max():.0%}" for bits, line in rows.groupby("bits", sort=False)),
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


def _switched(
    rows: pd.DataFrame, by: str, names: dict[str, tuple[str, str]], measure: str, dash: bool
) -> alt.LayerChart:
    """Lines coloured by a column, for one bit width at a time; a switch below the chart chooses which."""
    rows = rows.assign(line=rows[by].map({key: name for key, (name, _) in names.items()}))
    held = [pair for key, pair in names.items() if key in set(rows[by])]
    scale = alt.Scale(domain=[name for name, _ in held], range=[color for _, color in held])
    color = alt.Color("line:N", title=None, scale=scale)
    widths = sorted({int(bits) for bits in rows["bits"]}, reverse=True) or [0]
    switch = alt.param(value=widths[0], bind=alt.binding_radio(options=widths, name="bits "))
    chosen = alt.datum.bits == switch
    tips = [alt.Tooltip("line", title="patched"), *TIPS]
    if not dash:
        return lines(rows, LAYER, _y(measure), color, tooltip=tips).transform_filter(chosen).add_params(switch)
    rows["layers"] = rows["window"].map(lambda width: "one layer" if width == 1 else f"{width} in a row")
    style = alt.StrokeDash("layers:N", title=None, sort=["one layer"])
    base = alt.Chart(rows).encode(x=LAYER, color=color, detail="layers:N", tooltip=tips)
    chart = alt.layer(base.mark_line(point=True).encode(y=_y(measure), strokeDash=style))
    return chart.transform_filter(chosen).add_params(switch)


def by_position(
    table: pd.DataFrame, measure: str = "regained", *, group: str = "failure", method: str | None = None
) -> alt.LayerChart:
    """The residual stream patched at each kind of position, for one bit width at a time."""
    rows = select(table, measure, group=group, method=method, kind="resid_post", donor="same", window=1)
    return finish(
        _switched(rows, "positions", PLACES, measure, dash=False),
        f"Which tokens have to be right, {group} facts",
        f"{TITLES[measure].capitalize()} by patched layer, one line with a 95% band per kind of position; a switch "
        f"below chooses the bit width. Best layer of each: {_best(rows, 'positions', PLACES)}",
    )


def by_part(
    table: pd.DataFrame,
    measure: str = "regained",
    *,
    positions: str = "all",
    group: str = "failure",
    method: str | None = None,
) -> alt.LayerChart:
    """Attention and FFN output patched alone, in one layer or several in a row, for one bit width at a time."""
    rows = select(table, measure, group=group, method=method, positions=positions, donor="same")
    rows = rows[rows["kind"].isin(["attn_out", "mlp_out"])]
    return finish(
        _switched(rows, "kind", PARTS, measure, dash=True),
        f"One part alone at {PLACES[positions][0]}, {group} facts",
        f"{TITLES[measure].capitalize()} when only attention's or only the FFN's output is replaced, by first patched "
        "layer, dashed for windows of several layers; a switch below chooses the bit width. Best place of each: "
        f"{_best(rows, 'kind', PARTS)}",
    )


def _best(rows: pd.DataFrame, by: str, names: dict[str, tuple[str, str]]) -> str:
    top = rows.loc[rows.groupby(["bits", by], sort=False)["estimate"].idxmax()]
    return _listed(f"{row['bits']} bits, {names[row[by]][0]} {row['estimate']:.0%}" for row in top.to_dict("records"))


def necessity(table: pd.DataFrame, positions: str = "last", method: str | None = None) -> alt.LayerChart:
    """Dependence on each block, full precision in grey and one line per bit width (`stages.patching.necessity`)."""
    method = method or next((name for name in table["method"] if name != FULL), FULL)
    rows = table[table["method"].isin([FULL, method]) & (table["measure"] == "dependence")]
    rows = rows[rows["positions"] == positions]
    y, where = alt.Y("estimate:Q", title="margin lost, in nats"), PLACES[positions][0]
    layer = LAYER.copy().title("silenced layer")
    peaks = [
        f"{bits} bits {line['estimate'].max():.2g} at layer {line.loc[line['estimate'].idxmax(), 'layer']}"
        for bits, line in rows.groupby("bits", sort=False)
    ]
    return finish(
        lines(rows, layer, y, bits_color(rows), tooltip=TIPS),
        f"What the answer rests on: one layer silenced at {where}",
        f"Nats that the right answer loses over another fact's when one layer is silenced at {where}, by layer from "
        f"bottom to top, one line with a 95% band per bit width, full precision grey. Largest: {_listed(peaks)}",
    )
