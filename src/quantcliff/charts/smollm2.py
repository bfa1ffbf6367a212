"""Charts that set models side by side: their verdicts, and a signal over depth."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.theme import bits_color, finish

MODES = {"intact": "", "signal degradation": "/", "mixed": "~", "computation collapse": "X", "format bug": "!"}
"""Verdict -> a mark that says the same as its colour."""


def verdict_map(verdicts: pd.DataFrame) -> alt.LayerChart:
    """One row per model and method, one column per width, coloured by verdict.

    Args:
        verdicts: columns model, method, bits, mode, kept (share of full precision's right answers).
    """
    rows = verdicts[["model", "method", "bits", "mode", "kept"]].assign(
        row=verdicts["model"] + ", " + verdicts["method"],
        mark=verdicts["mode"].map(MODES),
        text=[f"{MODES[mode]} {kept:.0%}".strip() for mode, kept in
              zip(verdicts["mode"], verdicts["kept"], strict=True)],
    )  # fmt: skip
    held = [mode for mode in MODES if mode in set(rows["mode"])]
    base = alt.Chart(rows).encode(
        x=alt.X("bits:O", sort="descending", title="bits", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("row:N", sort=None, title=None, axis=alt.Axis(labelLimit=200)),
        tooltip=["model", "method", "bits", alt.Tooltip("mode", title="verdict"), alt.Tooltip("kept", format=".1%")],
    )
    legend = alt.Legend(columns=2, orient="top", labelLimit=200)
    cells = base.mark_rect(stroke="currentColor", strokeOpacity=0.3).encode(
        color=alt.Color("mode:N", title=None, scale=palette.scale(held), legend=legend)
    )
    text = base.mark_text(color=palette.LETTERS, fontSize=12).encode(text="text:N")
    words = []
    for (model, bits), group in rows.groupby(["model", "bits"], sort=False):
        counts = group["mode"].value_counts()
        found = ", ".join(f"{mode} {count} of {len(group)}" for mode, count in counts.items())
        words.append(f"{model} at {bits} bits: {found}")
    return finish(
        alt.layer(cells, text), "Verdicts, and the answers that are kept",
        f"One row per model and method, one column per bit width, coloured by verdict. {'; '.join(words)}.",
        height=24 * rows["row"].nunique(),
    )  # fmt: skip


def over_depth(tables: Mapping[str, pd.DataFrame], signal: str, words: str, method: str = "gptq") -> alt.LayerChart:
    """A signal or question of the verdict over the share of layers passed: a colour per width, a dash per model.

    Args:
        tables: model -> table of the stage verdict. The first model is drawn in whole lines, others dashed.
        words: what the signal is, for the axis.
    """
    parts = []
    for model, table in tables.items():
        rows = table[(table["signal"] == signal) & table["layer"].notna() & (table["method"] == method)]
        layers = int(table["layer"].max()) + 1
        parts.append(rows.assign(model=f"{model} ({layers} layers)", depth=(rows["layer"].astype(int) + 1) / layers))
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[["model", "bits", "layer", "depth", "value", "low", "high"]]
    names = list(dict.fromkeys(rows["model"]))
    dashes, below = alt.Scale(domain=names, range=[[1, 0], [5, 3], [2, 2]]), alt.Legend(orient="bottom", columns=1)
    dash = alt.StrokeDash("model:N", title=None, scale=dashes, legend=below)
    scale = alt.Scale(domain=[min(0.0, float(rows["value"].min())), 1])
    tips = ["model", "bits", "layer", *(alt.Tooltip(name, format=".2f") for name in ("value", "low", "high"))]
    base = alt.Chart(rows).encode(
        x=alt.X("depth:Q", title="share of layers passed", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("value:Q", title=words, scale=scale), color=bits_color(rows), detail="model:N",
    )  # fmt: skip
    drawn = alt.layer(
        base.mark_line().encode(strokeDash=dash),
        base.mark_point(size=35).encode(shape=alt.Shape("model:N", title=None, scale=alt.Scale(domain=names)),
                                        tooltip=tips),
    )  # fmt: skip
    said = []
    for (model, bits), line in rows.groupby(["model", "bits"], sort=False):
        half = line.iloc[(line["depth"] - 0.5).abs().argmin()]
        said.append(f"{model} at {bits} bits {half['value']:.2f} half-way up, {line['value'].iloc[-1]:.2f} at last")
    title = f"{words[0].upper()}{words[1:]}, by depth ({method})"
    return finish(drawn, title, f"{title}, a colour per width, a line per model: {'; '.join(said)}.", height=230)
