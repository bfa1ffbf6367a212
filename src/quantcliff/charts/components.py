"""Charts of the component tables: damage by layer, by head, and by the part that is quantized alone."""

import altair as alt
import pandas as pd

from quantcliff.charts.palette import FULL as GREY
from quantcliff.charts.theme import bits_color, finish
from quantcliff.study import FULL

TITLES = {
    "entropy": "How widely attention spreads",
    "jsd": "How far attention patterns move",
    "attn_cosine": "Does attention still write the same?",
    "sign_flips": "Gates that change sign",
    "jaccard": "Are the same neurons on top?",
    "ffn_cosine": "Does the FFN still write the same?",
    "same_experts": "Does the router choose the same experts?",
}

AXES = {
    "entropy": "normalised entropy",
    "jsd": "Jensen-Shannon divergence, bits",
    "attn_cosine": "cosine of attention outputs",
    "sign_flips": "share of gates flipped",
    "jaccard": "Jaccard overlap of top neurons",
    "ffn_cosine": "cosine of FFN outputs",
    "same_experts": "share of experts that both choose",
}

CONDITIONS = {"in_situ": "in situ", "clean": "clean input"}
PLACES = {"last": "the last token", "last_subject": "the last subject token"}


def of_method(table: pd.DataFrame, method: str | None = None) -> pd.DataFrame:
    """The quantized rows of one method (None: the first)."""
    rows = table[table["variant"] != FULL]
    return rows[rows["method"] == (method or rows["method"].iloc[0])]


def layers(
    table: pd.DataFrame, measure: str, position: str = "last", method: str | None = None, threshold: float | None = None
) -> alt.LayerChart:
    """One measure by layer, a colour per bit width, in situ (solid) and on clean input (dashed).

    The grey dotted line is the baseline: full precision beside itself on another prompt, or its own entropy. With
    `threshold`, the paper's line of severe damage is drawn too.
    """
    rows = table[(table["measure"] == measure) & (table["position"] == position) & table["head"].isna()]
    full = rows[(rows["variant"] == FULL) & (rows["condition"] == "in_situ")]
    rows = of_method(rows, method).assign(input=lambda t: t["condition"].map(CONDITIONS))
    x, y = alt.X("layer:O", title="layer"), alt.Y("estimate:Q", title=AXES[measure])
    color = bits_color(rows)
    dash = alt.StrokeDash(
        "input:N",
        title=None,
        scale=alt.Scale(domain=[*CONDITIONS.values()], range=[[1, 0], [5, 3]]),
        legend=alt.Legend(orient="bottom", columns=2),
    )
    tips = ["bits", "input", "layer", *(alt.Tooltip(name, format=".3f") for name in ("estimate", "low", "high")), "n"]
    base = alt.Chart(rows).encode(x=x, color=color, detail="input:N")
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=AXES[measure]), y2="high:Q")
    line = base.mark_line().encode(y=y, strokeDash=dash)
    points = base.mark_point().encode(y=y, tooltip=tips)
    own = measure == "entropy"
    level = alt.Y("estimate:Q" if own else "shuffled:Q", title=AXES[measure])
    meaning = "full precision" if own else "another prompt"
    tip = alt.Tooltip(level.shorthand, title=meaning, format=".3f")
    grey = alt.Chart(full).encode(x=x, y=level, tooltip=["layer", tip])
    dotted = grey.mark_line(strokeDash=[1, 3], color=GREY, point={"color": GREY, "size": 20})
    name = grey.transform_filter("datum.layer == 0").mark_text(align="left", dx=6, dy=-7, fontSize=11, text=meaning)
    parts = [band, line, points, dotted, name]
    if threshold is not None:
        rule = alt.Chart(pd.DataFrame({"value": [threshold]})).mark_rule(strokeDash=[8, 4], opacity=0.5)
        parts.append(rule.encode(y="value:Q", tooltip=alt.Tooltip("value:Q", title="the paper's line")))
    means = rows.groupby(["bits", "input"])["estimate"].mean()
    said = "; ".join(f"{bits} bits {name} {value:.2f}" for (bits, name), value in means.items())
    line_text = "" if threshold is None else f" A dashed level line marks the paper's threshold, {threshold:g}."
    return finish(
        alt.layer(*parts),
        TITLES[measure],
        f"{AXES[measure]}, layer by layer at {PLACES[position]}, one colour per bit width, solid in situ, dashed on "
        f"clean input; the grey dotted line is {meaning}.{line_text} Means over layers: {said}.",
    )


def heads(table: pd.DataFrame, measure: str = "jsd", position: str = "last", method: str | None = None) -> alt.Chart:
    """One square per head and layer, darker for more; switches choose bit width and input."""
    rows = table[(table["measure"] == measure) & (table["position"] == position) & table["head"].notna()]
    rows = of_method(rows, method).assign(given=lambda t: t["condition"].map(CONDITIONS))
    widths = sorted({int(bits) for bits in rows["bits"]}, reverse=True)
    bits = alt.selection_point(fields=["bits"], value=widths[-1], bind=alt.binding_radio(options=widths, name="bits "))
    inputs = [*CONDITIONS.values()]
    # not a field "input": Vega-Lite would take the binding's own `input` for a binding of that field
    where = alt.selection_point(
        fields=["given"], value=inputs[0], bind=alt.binding_radio(options=inputs, name="input ")
    )
    scale = alt.Scale(scheme="viridis", domain=[0, float(rows["estimate"].max()) or 1.0])
    chart = (
        alt.Chart(rows)
        .mark_rect()
        .encode(
            x=alt.X("layer:O", title="layer"),
            y=alt.Y("head:O", title="head"),
            color=alt.Color("estimate:Q", title=AXES[measure], scale=scale),
            tooltip=[
                "bits",
                alt.Tooltip("given", title="input"),
                "layer",
                "head",
                *(alt.Tooltip(n, format=".3f") for n in ("estimate", "low", "high")),
            ],
        )
        .add_params(bits, where)
        .transform_filter(bits)
        .transform_filter(where)
    )
    worst = rows.loc[rows["estimate"].idxmax()]
    return finish(
        chart,
        f"{TITLES[measure]}, head by head",
        f"A grid of heads and layers, coloured by {AXES[measure]}; switches choose bits and input. The highest value, "
        f"{worst['estimate']:.2f}, is head {worst['head']} of layer {worst['layer']} at {worst['bits']} bits "
        f"{worst['given']}.",
        height=max(120, 22 * rows["head"].nunique()),
    )


def parts(table: pd.DataFrame, part: str, method: str | None = None) -> alt.LayerChart:
    """What one module type (`part` "module") or one layer ("layer") quantized alone costs, in answer probability.

    A switch sets the loss as it is beside the loss per weight.
    """
    rows = of_method(table[table["part"] == part], method)
    counted = {"loss": "as it is", "loss_per_share": "per weight"}
    long = pd.concat(
        [
            rows[["bits", "name", "share", "n"]].assign(
                counted=text, loss=rows[column], low=rows[f"{column}_low"], high=rows[f"{column}_high"]
            )
            for column, text in counted.items()
        ]
    )
    options = list(counted.values())
    choose = alt.selection_point(
        fields=["counted"], value=options[0], bind=alt.binding_radio(options=options, name="loss ")
    )
    names = list(dict.fromkeys(rows["name"]))
    tips = ["name", "bits", *(alt.Tooltip(n, format=".3f") for n in ("loss", "low", "high")),
            alt.Tooltip("share", format=".1%", title="share of weights"), "n"]  # fmt: skip
    base = alt.Chart(long).encode(
        y=alt.Y("name:N", title=None if part == "module" else "layer", sort=names),
        yOffset=alt.YOffset("bits:N", sort="descending"),
        color=bits_color(rows),
    )
    title = "loss of answer probability"
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, axis=alt.Axis(tickCount=5)), x2="high:Q")
    chart = alt.layer(bars, base.mark_point(size=60).encode(x=alt.X("loss:Q", title=title), tooltip=tips))
    worst = rows.loc[rows["loss"].idxmax()]
    what = "module type" if part == "module" else "layer"
    return finish(
        chart.transform_filter(choose).add_params(choose),
        f"One {what} quantized, all else in full precision",
        f"Loss of answer probability with 95% intervals, one row per {what}, one colour per bit width; a switch "
        f"divides it by the share of weights. The largest loss is {worst['loss']:.2f}, {worst['name']} at "
        f"{worst['bits']} bits.",
        height=34 * len(names),
    )
