"""Charts of verdicts: signals by model, by layer, and the modules that are stored wrongly."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.theme import bits_color, decades, finish, lines, reference
from quantcliff.filecheck import KINDS
from quantcliff.stages.verdict import SIGNAL, Verdict
from quantcliff.stages.verdict.signals import COLLAPSED, DEGRADED, INTACT, KEPT, NOTHING, READINGS, SIGNALS

MARKS = {INTACT: "", DEGRADED: "/", COLLAPSED: "X", NOTHING: "?"}
"""Says the same as the colour."""

ORDER = [signal.name for signal in SIGNALS]
ROW = 24
"""Height of a row of a map, in pixels."""

TIPS = [
    alt.Tooltip("signal"),
    *(alt.Tooltip(name, format=".3g") for name in ("value", "low", "high", "perfect", "threshold", "severity")),
    alt.Tooltip("reading"),
    alt.Tooltip("n", title="prompts"),
]


def readings(table: pd.DataFrame) -> alt.LayerChart:
    """Every signal of every variant, coloured by what it reads; the table is that of `verdict.measure`."""
    rows = table[(table["kind"] == SIGNAL) & table["layer"].isna() & (table["signal"] != KEPT)]
    rows = rows.assign(model=rows["method"] + " " + rows["bits"].astype(str))
    words = "; ".join(f"{model}: {_counts(group)}" for model, group in rows.groupby("model", sort=False))
    return _map(
        rows, alt.X("model:N", title="method and bits", sort=None, axis=alt.Axis(labelAngle=-90)),
        "What each signal says of each model",
        f"One column per model, one row per signal, coloured by what it reads. {words}.", "model",
    )  # fmt: skip


ANSWERS = {"yes": "", "no": "X ", "inherited": "< ", "own": "= ", "not asked": ""}
"""Answer -> a mark that says the same as its colour."""


def answers(found: Mapping[str, Verdict], models: Mapping[str, str]) -> alt.LayerChart:
    """Every question put to every model: its number, coloured by the answer; "?" where the interval says both.

    Args:
        found: label -> verdict; `models`: label -> what the model is called here.
    """
    parts = [verdict.questions.assign(model=models[label]) for label, verdict in found.items()]
    rows = pd.concat(parts, ignore_index=True)
    marks = rows["answer"].map(ANSWERS)
    number = rows["value"].map(lambda value: "-" if pd.isna(value) else f"{value:.2f}")
    rows = rows.assign(text=marks + number + rows["sure"].map({True: "", False: "?"}))
    held = [name for name in ANSWERS if name in set(rows["answer"])]
    numbers = [alt.Tooltip(name, format=".2f") for name in ("value", "low", "high", "control", "held_to")]
    base = alt.Chart(rows).encode(
        x=alt.X("question:N", sort=None, title=None, axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y("model:N", sort=None, title=None, axis=alt.Axis(labelLimit=160)),
        tooltip=["model", "asks", *numbers, "answer", "n", "note"],
    )
    legend = alt.Legend(columns=3, orient="bottom")
    cells = base.mark_rect(stroke="currentColor", strokeOpacity=0.3).encode(
        color=alt.Color("answer:N", title=None, scale=palette.scale(held), legend=legend)
    )
    text = base.mark_text(color=palette.LETTERS, fontSize=12).encode(text="text:N")
    words = "; ".join(
        f"{model}: {', '.join(f'{row.question} {row.answer} ({row.text})' for row in group.itertuples())}"
        for model, group in rows.groupby("model", sort=False)
    )
    return finish(
        alt.layer(cells, text), "The questions, and how each model answers",
        f"One row per model, one column per question, coloured by its answer. {words}.",
        height=ROW * rows["model"].nunique(),
    )  # fmt: skip


OVER_DEPTH = {"responds": "lost answers that return", "alone": "answers that survive"}
"""What a question is called over depth."""


def over_depth(table: pd.DataFrame, model: str, signal: str, method: str = "gptq") -> alt.LayerChart:
    """A signal or question of the verdict by layer, over the share of the model's layers that have been passed.

    Args:
        table: of the stage verdict; `model`: its name.
    """
    rows = table[(table["signal"] == signal) & table["layer"].notna() & (table["method"] == method)]
    layers = int(table["layer"].max()) + 1
    rows = rows.assign(depth=(rows["layer"].astype(int) + 1) / layers).rename(columns={"value": "estimate"})
    x = alt.X("depth:Q", title=f"share of the {layers} layers passed", scale=alt.Scale(domain=[0, 1]))
    domain = [-0.2 if (rows["low"] < 0).any() else 0, 1.05]
    called = OVER_DEPTH.get(signal, signal)
    y = alt.Y("estimate:Q", title=called, scale=alt.Scale(domain=domain, clamp=True))
    tips = ["bits", "layer", *(alt.Tooltip(name, format=".2f") for name in ("estimate", "low", "high"))]
    words, title = [], f"{called[0].upper()}{called[1:]}"
    for bits, line in rows.groupby("bits", sort=False):
        half = line.iloc[(line["depth"] - 0.5).abs().argmin()]
        words.append(f"at {bits} bits {half['estimate']:.2f} half-way up and {line['estimate'].iloc[-1]:.2f} at last")
    return finish(
        lines(rows, x.axis(format="%"), y, bits_color(rows), tooltip=tips),
        f"{title} by depth: {model}, {method}",
        f"{title} of {model} by depth, one line with a 95% band per bit width: {'; '.join(words)}.",
        height=200,
    )


def by_layer(table: pd.DataFrame, variant: str) -> alt.LayerChart:
    """The signals of one variant layer by layer, coloured by what they read; those without a profile are left out."""
    rows = table[(table["kind"] == SIGNAL) & (table["variant"] == variant) & table["layer"].notna()]
    rows = rows.astype({"layer": int})
    words = "; ".join(f"{name}: {_runs(rows[rows['signal'] == name])}" for name in ORDER if name in set(rows["signal"]))
    return _map(
        rows, alt.X("layer:O", title="layer"), "Where it shows",
        f"One column per layer, one row per signal, coloured by what it reads. {words}.", "layer",
    )  # fmt: skip


def severities(signals: pd.DataFrame) -> alt.LayerChart:
    """How far each signal has gone from undamaged (0) to its threshold (1, a line); `signals` are a verdict's own."""
    rows = signals[signals["reading"] != NOTHING]
    ways = {name: rows[column].clip(upper=2) for name, column in (("a", "least"), ("b", "most"))}
    base = alt.Chart(rows.assign(shown=rows["severity"].clip(upper=2), **ways)).encode(
        y=alt.Y("signal:N", title=None, sort=ORDER, axis=alt.Axis(labelLimit=140)), color=_color()
    )
    scale, title = alt.Scale(domain=[0, 2]), "severity (1: threshold)"
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("a:Q", title=title, scale=scale), x2=alt.X2("b", title=title))
    axis = alt.Axis(values=[0, 0.5, 1, 1.5, 2])
    points = base.mark_point(size=90).encode(x=alt.X("shown:Q", title=title, scale=scale, axis=axis), tooltip=TIPS)
    line = alt.Chart(pd.DataFrame({"x": [1]})).mark_rule(strokeDash=[4, 4], opacity=0.6).encode(x="x:Q")
    words = "; ".join(f"{row.signal} {row.severity:.2f}" for row in rows.itertuples())
    return finish(
        alt.layer(line, bars, points), "How severe is each signal?",
        "One point with a 95% interval per signal, from 0 for no damage to a dashed line at 1, its threshold; 2 and "
        f"more at the right edge: {words}.", height=ROW * max(len(rows), 1),
    )  # fmt: skip


def modules(table: pd.DataFrame) -> alt.LayerChart:
    """How far the weights of every module lie from the base's, in units of what rounding does; faults marked.

    The table is that of `weights.measure`, of one variant.
    """
    fine = "as rounding explains"
    called = {name: f"wrong {name}" for name in KINDS} | {"": fine, "error": "error too large"}
    rows = table.assign(state=table["fault"].map(called), excess=table["excess"].clip(lower=0.1))
    domain = [called[name] for name in ("", *KINDS) if name in ("", *table["fault"])]
    shape = alt.Scale(domain=domain, range=["circle", "cross", "diamond", "triangle-up", "square", "triangle-down"])
    points = alt.Chart(rows).mark_point(size=60).encode(
        x=alt.X("layer:O", title="layer"), xOffset=alt.XOffset("module:N"),
        y=alt.Y("excess:Q", title="error over that of rounding", axis=decades(rows["excess"]),
                scale=alt.Scale(type="log")),
        color=alt.Color("state:N", title=None, scale=palette.scale(domain)),
        shape=alt.Shape("state:N", title=None, scale=shape),
        tooltip=["layer", "module", alt.Tooltip("excess", format=".2f"), alt.Tooltip("match", format=".2f"),
                 alt.Tooltip("stretch", format=".2f"), alt.Tooltip("shift", format=".2f"), "fault", "faulty", "groups"],
    )  # fmt: skip
    bad = rows[rows["fault"] != ""]
    found = "; ".join(f"layer {row.layer} {row.module}: {row.fault}" for row in bad.itertuples()) or "none"
    words = f"One point per linear layer; 1 is what rounding alone does. Marked as stored wrongly: {found}."
    return finish(alt.layer(reference(1.0), points), "Weights beside the base's", words)


def _map(rows: pd.DataFrame, x: alt.X, title: str, words: str, column: str) -> alt.LayerChart:
    rows = rows.assign(mark=rows["reading"].map(MARKS))
    base = alt.Chart(rows).encode(x=x, y=alt.Y("signal:N", title=None, sort=ORDER, axis=alt.Axis(labelLimit=140)))
    cells = base.mark_rect(stroke="transparent", strokeWidth=1).encode(color=_color(), tooltip=[column, *TIPS])
    marks = base.mark_text(fontSize=13, fontWeight="bold").encode(text="mark:N", color=alt.value(palette.LETTERS))
    return finish(alt.layer(cells, marks), title, words, height=ROW * rows["signal"].nunique())


def _color() -> alt.Color:
    return alt.Color("reading:N", title=None, scale=palette.scale(READINGS), legend=alt.Legend(columns=2))


def _counts(rows: pd.DataFrame) -> str:
    counts = rows["reading"].value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in READINGS if name in counts)


def _runs(rows: pd.DataFrame) -> str:
    """`"intact in layers 0 to 3, degraded in layer 4"`"""
    rows = rows.sort_values("layer")
    run = (rows["reading"] != rows["reading"].shift()).cumsum()
    parts = []
    for _, part in rows.groupby(run):
        first, last = part["layer"].iloc[0], part["layer"].iloc[-1]
        parts.append(f"{part['reading'].iloc[0]} in layer{f's {first} to {last}' if last > first else f' {first}'}")
    return ", ".join(parts)
