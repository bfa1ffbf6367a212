"""The cliff, one bit at a time: every stage at the width that one slider chooses, of the model that one list chooses.

In: tables of the stages of several models. Out: one tidy table (`steps`), and a chart of each stage that follows
`MODEL` and a slider over the widths.
"""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.controls import Choice, Slider, follows
from quantcliff.charts.palette import FULL
from quantcliff.charts.theme import finish
from quantcliff.charts.verdict import MARKS
from quantcliff.stages.verdict.signals import NOTHING, READINGS, SIGNALS

COLUMNS = ["model", "bits", "stage", "line", "layer", "depth", "value", "low", "high", "note"]

WHOLE = 0
"""Stands in the column `bits` for full precision."""

LENS, PATCH, PARTS, CKA, KEPT, SEVERITY = "lens", "patch", "parts", "CKA", "kept", "severity"

FLIPS, JSD, COSINE = "sign flips of FFN gates", "divergence of attention (JSD)", "cosine of FFN output"


def steps(
    name: str, verdict: pd.DataFrame, lens: pd.DataFrame, components: pd.DataFrame, method: str,
    between: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """All that the charts show of one model and one method.

    Args:
        name: of the model.
        verdict, lens, components: tables of those stages.
        between: one cell and its layers from the boundary's grid, at a width between two whole ones.

    Returns:
        Columns `COLUMNS`; bits is `WHOLE` for full precision, depth the share of layers passed.
    """
    layers = int(verdict["layer"].max()) + 1
    own = verdict[verdict["method"] == method]
    deep = own[own["layer"].notna()].assign(stage="", line="")
    parts = []
    for signal, stage, line in (("responds", PATCH, ""), ("CKA diagonal", CKA, ""), ("sign flips", PARTS, FLIPS),
                                ("FFN cosine", PARTS, COSINE)):  # fmt: skip
        parts.append(deep[deep["signal"] == signal].assign(stage=stage, line=line))
    whole = own[own["layer"].isna()]
    parts.append(whole[whole["signal"] == "accuracy kept"].assign(stage=KEPT))
    marks = whole[whole["kind"] == "signal"]
    marks = marks[marks["signal"].isin([signal.name for signal in SIGNALS])]
    drawn = marks.assign(value=marks["severity"], low=marks["least"], high=marks["most"], note=marks["reading"])
    parts.append(drawn.assign(stage=SEVERITY, line=drawn["signal"]))
    read = lens[(lens["measure"] == "rank_median") & lens["method"].isin([method, "full"])]
    read = read[read["group"] == "known"] if "group" in read else read
    bits = read["bits"].where(read["method"] != "full", WHOLE)
    parts.append(read.assign(stage=LENS, value=read["estimate"], bits=bits))
    jsd = components[(components["measure"] == "jsd") & (components["condition"] == "in_situ")]
    jsd = jsd[(jsd["position"] == "last") & jsd["head"].isna() & (jsd["method"] == method)]
    parts.append(jsd.assign(stage=PARTS, line=JSD, value=jsd["estimate"]))
    if between is not None:
        cell, profile = between
        parts.append(cell.assign(stage=KEPT, value=cell["kept"], low=cell["kept_low"], high=cell["kept_high"]))
        for column, stage, line in (("sign_flips", PARTS, FLIPS), ("cka", CKA, "")):
            parts.append(profile.assign(stage=stage, line=line, value=profile[column]))
    found = pd.concat([part.assign(model=name).reindex(columns=COLUMNS) for part in parts], ignore_index=True)
    found = found.assign(depth=(found["layer"].astype(float) + 1) / layers, bits=found["bits"].astype(float))
    numbers = {column: found[column].astype(float).round(4) for column in ("value", "low", "high", "depth")}
    note = found["note"].where(found["stage"] == SEVERITY)
    return found.assign(**numbers, note=note, line=found["line"].fillna("").astype(str))


def widths(table: pd.DataFrame) -> list[float]:
    """The widths that any model has, most bits first."""
    return sorted(set(table["bits"]) - {WHOLE}, reverse=True)


def controls(table: pd.DataFrame, start: float = 4) -> tuple[Choice, Slider]:
    """The list of models and the slider over widths."""
    held = widths(table)
    names = list(dict.fromkeys(table["model"]))
    first = held.index(start) if start in held else 0
    return (
        Choice("cliff-model", "Model", {"": {name: name for name in names}}),
        Slider("cliff-bits", "Bits", [f"{bits:g} bits" for bits in held], first),
    )


def _at(bits: Sequence[float]) -> str:
    """The filter of rows that the controls ask for."""
    return f"datum.model == which && datum.bits == {list(bits)}[+step]"


def _follow(chart: alt.LayerChart, table: pd.DataFrame) -> alt.LayerChart:
    model, slider = controls(table)
    return chart.add_params(follows("which", model), follows("step", slider))


def _missing(table: pd.DataFrame, rows: pd.DataFrame, why: Mapping[float, str]) -> alt.Chart:
    """Words in the middle of the chart where a model has no value at a width."""
    there = set(zip(rows["model"], rows["bits"], strict=True))
    gaps = [
        {"model": model, "bits": bits, "text": why.get(bits, f"no value at {bits:g} bits")}
        for model in dict.fromkeys(table["model"]) for bits in widths(table) if (model, bits) not in there
    ]  # fmt: skip
    data = pd.DataFrame(gaps, columns=["model", "bits", "text"])
    mark = alt.Chart(data).transform_filter(_at(widths(table))).mark_text(fontSize=12)
    return mark.encode(text="text:N", x=alt.value("width"), y=alt.value(14)).properties()


def _color(table: pd.DataFrame) -> alt.Color:
    return alt.Color("bits:N", scale=palette.scale(widths(table)), legend=None)


TIPS = [alt.Tooltip("line", title="measure"), "layer", alt.Tooltip("value", format=".3f"),
        alt.Tooltip("low", format=".3f"), alt.Tooltip("high", format=".3f")]  # fmt: skip
DEPTH = alt.X("depth:Q", title="share of the layers passed", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
HEIGHT = 150


def by_depth(
    table: pd.DataFrame, stage: str, title: str, axis: str, why: Mapping[float, str] | None = None
) -> alt.LayerChart:
    """One stage over the layers: a line for each measure, with its 95% band; full precision in grey.

    The axis goes from 0 to 1, for ranks from the worst to 1, in powers of ten.

    Args:
        table: of `steps`, all models.
        why: width -> words for a width at which there is no value.
    """
    rows = table[table["stage"] == stage].drop(columns=["stage", "note"])
    scale, ticks = alt.Scale(domain=[0, 1], clamp=True), alt.Axis(tickCount=4)
    if stage == LENS:
        decades = 10.0 ** np.arange(np.ceil(np.log10(max(rows["value"].max(), 10))) + 1)
        scale = alt.Scale(type="log", domain=[decades[-1], 1], clamp=True)
        ticks = alt.Axis(values=decades.tolist(), format=",d")
    y = alt.Y("value:Q", title=axis, scale=scale, axis=ticks)
    base = alt.Chart(rows[rows["bits"] != WHOLE]).transform_filter(_at(widths(table)))
    base = base.encode(x=DEPTH, color=_color(table))
    line = base.mark_line(point=True)
    names = list(dict.fromkeys(rows["line"]))
    if len(names) > 1:
        dash = alt.Scale(domain=names, range=[[1, 0], [6, 3], [2, 2]][: len(names)])
        legend = alt.Legend(orient="bottom", columns=1, labelLimit=260, symbolStrokeColor=FULL)
        line = line.encode(strokeDash=alt.StrokeDash("line:N", title=None, scale=dash, legend=legend))
    band = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=axis, scale=scale), y2="high:Q", detail="line:N")
    layers = [band, line.encode(y=y, tooltip=TIPS)]
    if len(whole := rows[rows["bits"] == WHOLE]):
        grey = alt.Chart(whole).transform_filter("datum.model == which")
        layers.insert(0, grey.mark_line(color=FULL, strokeDash=[4, 4]).encode(x=DEPTH, y=y, tooltip=TIPS))
    gaps = _missing(table, rows, why or {}).mark_text(align="right", dx=-4)
    return _follow(finish(alt.layer(*layers, gaps), title, _words(rows, title), height=HEIGHT), table)


def kept(table: pd.DataFrame) -> alt.LayerChart:
    """The share of answers kept at every width, the chosen one marked."""
    rows = table[table["stage"] == KEPT].drop(columns=["stage", "line", "note", "layer", "depth"])
    held = widths(table)
    x = alt.X("bits:O", title="bits", sort=held, scale=alt.Scale(domain=held))
    y = alt.Y("value:Q", title="answers kept", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=4))
    base = alt.Chart(rows).transform_filter("datum.model == which").encode(x=x)
    tips = [alt.Tooltip(name, format=".1%") for name in ("value", "low", "high")]
    line = base.mark_line(color=FULL, point={"color": FULL}).encode(y=y, tooltip=tips)
    here = base.transform_filter(_at(held)).encode(color=_color(table))
    bars = here.mark_rule(strokeWidth=3).encode(y=alt.Y("low:Q", title="answers kept"), y2="high:Q")
    point = here.mark_point(size=160).encode(y=y, tooltip=tips)
    title = "From outside: answers kept"
    return _follow(finish(alt.layer(line, bars, point), title, _words(rows, title), height=HEIGHT), table)


def severity(table: pd.DataFrame) -> alt.LayerChart:
    """How far each signal of the verdict has gone from undamaged (0) to its threshold (1)."""
    rows = table[(table["stage"] == SEVERITY) & (table["note"] != NOTHING)]
    rows = rows.assign(shown=rows["value"].clip(upper=2))[["model", "bits", "line", "value", "shown", "note"]]
    rows = rows.assign(mark=rows["note"].map(MARKS))
    order = [signal.name for signal in SIGNALS]
    y = alt.Y("line:N", title=None, sort=order, scale=alt.Scale(domain=order), axis=alt.Axis(labelLimit=130))
    color = alt.Color("note:N", title=None, scale=palette.scale(READINGS), legend=None)
    base = alt.Chart(rows).transform_filter(_at(widths(table)))
    base = base.encode(y=y, tooltip=["line", alt.Tooltip("value", title="severity", format=".2f"), "note"])
    axis = alt.Axis(values=[0, 1, 2])
    x = alt.X("shown:Q", title="severity (1: failed)", scale=alt.Scale(domain=[0, 2]), axis=axis)
    bars, marks = base.mark_bar(height=8).encode(x=x, color=color), base.mark_text(align="left", dx=3, fontSize=10)
    line = alt.Chart(pd.DataFrame({"x": [1]})).mark_rule(strokeDash=[4, 4], opacity=0.6).encode(x="x:Q")
    title = "Verdict: severity of each signal"
    chart = alt.layer(bars, marks.encode(x=x, text="mark:N"), line, _missing(table, rows, {}).mark_text(align="right"))
    return _follow(finish(chart, title, _words(rows.rename(columns={"shown": "depth"}), title), height=170), table)


def _words(rows: pd.DataFrame, title: str) -> str:
    """Mean of what is drawn of each model at each width, for those who see no chart."""
    means = rows[rows["bits"] != WHOLE].groupby(["model", "bits"], sort=False)["value"].mean()
    parts = [
        f"{model}: " + ", ".join(f"{bits:g} bits {value:.2f}" for (_, bits), value in group.items())
        for model, group in means.sort_index(ascending=[True, False]).groupby(level="model")
    ]
    return f"{title}, for the model and the bits that the controls choose. On average {'; '.join(parts)}."


def sentences(table: pd.DataFrame, modes: Mapping[tuple[str, float], str]) -> dict[str, str]:
    """What the charts show, for each model and place of the slider (`controls.told`).

    Args:
        modes: (model, bits) -> verdict.
    """
    found = {}
    for model in dict.fromkeys(table["model"]):
        own = table[table["model"] == model]
        for place, bits in enumerate(widths(table)):
            here = own[own["bits"] == bits]
            found[f"{model}|{place}"] = _sentence(model, bits, here, own, modes.get((model, bits), ""))
    return found


def _sentence(model: str, bits: float, here: pd.DataFrame, own: pd.DataFrame, mode: str) -> str:
    def stage(name: str, line: str = "") -> pd.DataFrame:
        rows = here[here["stage"] == name]
        return rows[rows["line"] == line] if line else rows

    def halfway(rows: pd.DataFrame) -> float:
        return float(rows["value"].iloc[int(np.abs(rows["depth"] - 0.5).argmin())])

    share = stage(KEPT)["value"]
    parts = [f"{model} at {bits:g} bits"]
    parts.append(f"keeps {share.iloc[0]:.1%} of its answers" if len(share) else "was not asked")
    said = [" ".join(parts) + (f"; verdict: {mode}." if mode else ".")]
    if len(rows := stage(LENS)):
        last = float(rows["value"].iloc[-1])
        said.append(f"After the last layer the answer stands at median rank {last:,.0f}.")
    if len(rows := stage(PATCH).dropna(subset="value")):
        said.append(f"Clean input half-way up brings back {halfway(rows):.0%} of the lost answers.")
    if len(rows := stage(PARTS, FLIPS)):
        said.append(f"{rows['value'].mean():.0%} of the gates have the wrong sign.")
    if len(rows := stage(CKA)):
        said.append(f"The last layer's CKA is {rows['value'].iloc[-1]:.2f}.")
    return " ".join(said)


def turns(table: pd.DataFrame) -> pd.DataFrame:
    """At which step between two whole widths each stage changes most, of all that it changes.

    A stage is taken at its end: the last layer (lens, on the logarithm of the rank; CKA), half-way up (clean input),
    the mean over layers (parts), the mean over signals (severity, up to 2).

    Returns:
        model, stage, step ("3 to 2 bits"), share (of all changes from step to step).
    """
    rows = []
    for (model, stage, line), part in table[table["bits"] != WHOLE].groupby(["model", "stage", "line"], sort=False):
        if stage == SEVERITY and line != SIGNALS[0].name:
            continue
        whole = table[(table["model"] == model) & (table["stage"] == SEVERITY)] if stage == SEVERITY else part
        values = {bits: _end(stage, whole[whole["bits"] == bits]) for bits in widths(table) if bits == int(bits)}
        held = {bits: value for bits, value in values.items() if not np.isnan(value)}
        change = np.abs(np.diff(list(held.values())))
        if len(change) < 2 or not change.sum():
            continue
        most, bits = int(change.argmax()), list(held)
        step = f"{bits[most]:g} to {bits[most + 1]:g} bits"
        rows.append({"model": model, "stage": line if stage == PARTS else NAMES[stage], "step": step,
                     "share": change[most] / change.sum()})  # fmt: skip
    return pd.DataFrame(rows, columns=["model", "stage", "step", "share"])


NAMES = {KEPT: "answers kept", LENS: "rank after the last layer", PATCH: "answers back, clean half-way up",
         CKA: "CKA of the last layer", SEVERITY: "mean severity"}  # fmt: skip


def _end(stage: str, rows: pd.DataFrame) -> float:
    """One number for a stage at one width."""
    rows = rows.dropna(subset="value").sort_values("depth")
    if rows.empty:
        return float("nan")
    value = rows["value"]
    if stage == LENS:
        return float(np.log(value.iloc[-1]))
    if stage == CKA:
        return float(value.iloc[-1])
    if stage == PATCH:
        return float(value.iloc[int(np.abs(rows["depth"] - 0.5).argmin())])
    return float(value.clip(upper=2).mean())
