"""Charts of the repair table: what each remedy brings back, what it costs, and where the damage starts."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from quantcliff.charts.palette import FULL
from quantcliff.charts.theme import bits_color, finish, lines

PERCENT = alt.Axis(format="%")
RIGHT = "answered right"
SHAPES = {
    "none": "circle",
    "protection": "square",
    "compensation": "triangle-up",
    "amplification": "diamond",
}
TIPS = [
    alt.Tooltip("bits"), alt.Tooltip("name", title="repair"),
    alt.Tooltip("average_bits", format=".2f", title="bits per weight"),
    *(alt.Tooltip(name, format=".1%", title=title) for name, title in
      {"estimate": "share", "low": "from", "high": "to"}.items()),
    alt.Tooltip("n", title="prompts"),
]  # fmt: skip


def select(
    table: pd.DataFrame, part: str, measure: str = "accuracy", *, tuned: str = "known", method: str | None = None
) -> pd.DataFrame:
    """Every remedy once, of one method (None: the first), with a `name` to show.

    Remedies in which nothing was tuned are taken over all prompts; amplification, with alpha chosen on `tuned`, on the
    test half. Domino and the curve over alpha are no remedies and left out.
    """
    rows = table[(table["part"] == part) & (table["measure"] == measure)]
    rows = rows[rows["method"] == (method or table["method"].iloc[0])]
    rows = rows[(rows["repair"].isin(SHAPES) & rows["half"].eq("all")) | rows["tuned"].eq(tuned)]
    rows = rows.dropna(subset="estimate")
    return rows.assign(name=[_name(*pair) for pair in zip(rows["repair"], rows["setting"], strict=True)])


def _name(repair: str, setting: str) -> str:
    if repair == "protection":
        return f"8 bits: {setting}"
    return f"amplified {setting.rsplit(', ', 1)[0]}" if repair == "amplification" else setting or "no repair"


SAME_ROW = (("8 bits: last ", "8 bits: first "), ("random modules", "heaviest tails"), ("plain SVD", "EoRA"),
            (", other lens", ""))  # fmt: skip
"""What tells the name of a control from that of its repair."""


def _row(name: str, control: bool) -> str:
    """The name of the repair that a control belongs to; its own for a repair."""
    for own, repaired in SAME_ROW if control else ():
        name = name.replace(own, repaired)
    return name


def beside_line(table: pd.DataFrame, part: str = "known", *, method: str | None = None) -> pd.DataFrame:
    """Every repair that costs bits, beside the line that joins the models without repair (`cost` draws both).

    Returns:
        the rows of `select` without controls and amplification, and `line`: the share on that line at the same average
        bits of a weight, straight between two widths; NaN where it does not reach so far.
    """
    rows = select(table, part, method=method)
    plain = rows[rows["repair"] == "none"].sort_values("average_bits")
    rows = rows[~rows["control"] & rows["repair"].isin(["protection", "compensation"])]
    return rows.assign(
        line=np.interp(rows["average_bits"], plain["average_bits"], plain["estimate"], left=np.nan, right=np.nan)
    )


def remedies(
    table: pd.DataFrame,
    part: str = "failure",
    repairs: Sequence[str] = ("protection", "compensation"),
    *,
    tuned: str = "known",
    method: str | None = None,
    title: str = RIGHT,
) -> alt.LayerChart:
    """One row per remedy, one point per bit width; the hollow point below it is its control.

    Amplification is shown by itself, not on top of another remedy. `title` says what the shares are of.
    """
    rows = select(table, part, tuned=tuned, method=method)
    rows = rows[rows["repair"].isin(repairs) & ~rows["name"].str.startswith("amplified after")]
    rows = rows.assign(row=list(map(_row, rows["name"], rows["control"])))
    rows = rows.assign(place=rows["bits"].astype(str) + rows["control"].map({False: "", True: " control"}))
    widths = sorted({int(value) for value in rows["bits"]}, reverse=True)
    places = [f"{bits}{kind}" for bits in widths for kind in ("", " control")]
    order = list(dict.fromkeys(rows["row"]))
    axis = alt.Axis(labelLimit=170, grid=True, gridOpacity=0.12)
    scale = alt.Scale(domain=[0, 1])

    def marks(part: pd.DataFrame, filled: bool) -> list[alt.Chart]:
        base = alt.Chart(part).encode(
            y=alt.Y("row:N", title=None, sort=order, axis=axis),
            yOffset=alt.YOffset("place:N", sort=places, scale=alt.Scale(domain=places, padding=1)),
            color=bits_color(rows),
        )
        low = alt.X("low:Q", title=title, axis=PERCENT, scale=scale)
        share = alt.X("estimate:Q", title=title, axis=PERCENT, scale=scale)
        bars = base.mark_rule(strokeWidth=1.5).encode(x=low, x2=alt.X2("high:Q", title=title))
        return [bars, base.mark_point(filled=filled, size=45, strokeWidth=1.5).encode(x=share, tooltip=TIPS)]

    best = rows[~rows["control"]].sort_values("estimate").groupby("bits", sort=False).tail(1)
    said = "; ".join(f"at {row.bits} bits {row.estimate:.0%} ({row.name})" for row in best.itertuples(index=False))
    return finish(
        alt.layer(*marks(rows[~rows["control"]], True), *marks(rows[rows["control"]], False)),
        f"{', '.join(repairs).capitalize()}: {part} facts",
        f"One row per repair, with a point and its 95% interval for each bit width, {title}; hollow points are its "
        f"control. Best: {said}.",
        height=9 * len(order) * len(places),
    )


def cost(table: pd.DataFrame, part: str = "known", *, method: str | None = None) -> alt.LayerChart:
    """Accuracy over the average bits of a weight: each repaired model, and a line through the unrepaired ones."""
    rows = select(table, part, method=method)
    rows = rows[~rows["control"]]
    y = alt.Y("estimate:Q", title=RIGHT, axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    x = alt.X("average_bits:Q", title="bits per weight, all counted", scale=alt.Scale(zero=False, padding=12))
    plain = alt.Chart(rows[rows["repair"] == "none"]).mark_line(strokeDash=[4, 4], strokeWidth=1.5, opacity=0.7)
    points = alt.Chart(rows).mark_point(size=70)
    shape = alt.Shape(
        "repair:N",
        title=None,
        legend=alt.Legend(
            columns=2,
            orient="bottom",
            labelExpr="datum.label == 'none' ? 'no repair' : datum.label",
            symbolFillColor=FULL,
            symbolStrokeColor=FULL,
        ),
        scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
    )
    within = beside_line(table, part, method=method).dropna(subset="line")
    above = int((within["estimate"] > within["line"]).sum())
    return finish(
        alt.layer(
            plain.encode(x=x, y=y, color=alt.value(FULL)),
            points.encode(x=x, y=y, color=bits_color(rows), shape=shape, tooltip=TIPS),
        ),
        f"What the extra bits buy: {part} facts",
        f"Share of {part} facts answered right against bits per weight, one point per repaired model, shaped by "
        f"repair; a dashed line joins the models without repair. Of {len(within)} repairs that cost bits and lie where "
        f"that line reaches, {above} lie above it.",
    )


def domino(table: pd.DataFrame, part: str = "failure", *, method: str | None = None) -> alt.LayerChart:
    """Accuracy when only the first k layers are quantized (solid), or only the last k (dashed)."""
    rows = table[(table["repair"] == "domino") & (table["part"] == part) & (table["half"] == "all")]
    rows = rows[(rows["measure"] == "accuracy") & (rows["method"] == (method or table["method"].iloc[0]))]
    rows = rows.assign(name=rows["setting"].str.split().str[0] + " layers quantized")
    first, last = rows[~rows["control"]], rows[rows["control"]]
    x = alt.X("amount:Q", title="layers quantized (k)", axis=alt.Axis(tickMinStep=1, format="d"))
    y = alt.Y("estimate:Q", title=RIGHT, axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    tips = [alt.Tooltip("amount", title="k"), *TIPS]
    dashed = alt.Chart(last).mark_line(strokeDash=[4, 3], strokeWidth=1.5, point=alt.OverlayMarkDef(size=20))
    ends = [
        f"{bits} bits {line['estimate'].iloc[0]:.0%}, {line['estimate'].iloc[1]:.0%} with one layer, "
        f"{line['estimate'].iloc[-1]:.0%} with all"
        for bits, line in first.sort_values("amount").groupby("bits", sort=False)
    ]
    return finish(
        alt.layer(
            lines(first, x, y, bits_color(rows), tooltip=tips),
            dashed.encode(x=x, y=y, color=bits_color(rows), tooltip=tips),
        ),
        f"Quantizing k layers: {part} facts",
        "Share answered right by the number of quantized layers, all others in full precision; solid lines with 95% "
        f"bands count from the first layer, dashed ones from the last. From the first: {'; '.join(ends)}.",
    )


def alphas(table: pd.DataFrame, base: str = "alone", *, method: str | None = None) -> alt.LayerChart:
    """Accuracy on the validation half by alpha: failure facts (solid), robust facts (dashed)."""
    rows = table[(table["repair"] == "amplification curve") & (table["measure"] == "accuracy") & ~table["control"]]
    rows = rows[(rows["method"] == (method or table["method"].iloc[0])) & rows["setting"].str.startswith(f"{base}, ")]
    named = zip(rows["amount"], rows["part"], strict=True)
    rows = rows.assign(name=[f"alpha {alpha:g}, {part} facts" for alpha, part in named])
    failure, robust = (rows[rows["part"] == part] for part in ("failure", "robust"))
    x = alt.X("amount:Q", title="alpha", scale=alt.Scale(type="sqrt"))
    y = alt.Y("estimate:Q", title=RIGHT, axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    dashed = alt.Chart(robust).mark_line(strokeDash=[4, 3], strokeWidth=1.5)
    peaks = [f"{bits} bits {line['estimate'].max():.0%}" for bits, line in failure.groupby("bits", sort=False)]
    return finish(
        alt.layer(
            lines(failure, x, y, bits_color(rows), tooltip=TIPS),
            dashed.encode(x=x, y=y, color=bits_color(rows), tooltip=TIPS),
        ),
        f"Amplification by alpha, {base}",
        "Share answered right on the validation half by alpha, on a square-root axis: failure facts solid with 95% "
        f"bands, robust facts dashed. Failure facts peak at {', '.join(peaks)}.",
    )
