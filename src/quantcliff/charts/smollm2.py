"""Charts that set two models side by side: their verdicts, and one signal over the depth of each."""


import altair as alt
import pandas as pd

from quantcliff.charts.theme import bits_color, finish, lines

MODES = {
    "intact": ("#0f7662", ""), "signal degradation": ("#a8660e", "/"), "mixed": ("#7d5ba6", "~"),
    "computation collapse": ("#c0323a", "X"), "format bug": ("#737373", "!"),
}  # fmt: skip
"""Verdict -> colour, and a mark that says the same."""


def verdict_map(verdicts: pd.DataFrame) -> alt.LayerChart:
    """One row per model and method, one column per width, coloured by verdict.

    Args:
        verdicts: columns model, method, bits, mode, kept (share of full precision's right answers).
    """
    rows = verdicts.assign(
        row=verdicts["model"] + ", " + verdicts["method"],
        mark=verdicts["mode"].map({mode: mark for mode, (_, mark) in MODES.items()}),
        text=[f"{mark} {kept:.0%}".strip() for mark, kept in zip(
            verdicts["mode"].map({mode: mark for mode, (_, mark) in MODES.items()}), verdicts["kept"], strict=True)],
    )  # fmt: skip
    held = [mode for mode in MODES if mode in set(rows["mode"])]
    scale = alt.Scale(domain=held, range=[MODES[mode][0] for mode in held])
    base = alt.Chart(rows).encode(
        x=alt.X("bits:O", sort="descending", title="bits", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("row:N", sort=None, title=None, axis=alt.Axis(labelLimit=200)),
        tooltip=["model", "method", "bits", alt.Tooltip("mode", title="verdict"), alt.Tooltip("kept", format=".1%")],
    )
    legend = alt.Legend(columns=2, orient="top", labelLimit=200)
    cells = base.mark_rect(stroke="currentColor", strokeOpacity=0.3).encode(
        color=alt.Color("mode:N", title=None, scale=scale, legend=legend)
    )
    text = base.mark_text(color="white", fontSize=12).encode(text="text:N")
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


def over_depth(table: pd.DataFrame, model: str, signal: str, method: str = "gptq") -> alt.LayerChart:
    """A signal of the verdict by layer, over the share of the model's layers that have been passed.

    Args:
        table: of the stage verdict; `model`: its name.
    """
    rows = table[(table["signal"] == signal) & table["layer"].notna() & (table["method"] == method)]
    layers = int(table["layer"].max()) + 1
    rows = rows.assign(depth=(rows["layer"].astype(int) + 1) / layers).rename(columns={"value": "estimate"})
    x = alt.X("depth:Q", title=f"share of the {layers} layers passed", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("estimate:Q", title=signal, scale=alt.Scale(domain=[-0.2, 1.05], clamp=True))
    tips = ["bits", "layer", *(alt.Tooltip(name, format=".2f") for name in ("estimate", "low", "high"))]
    words, title = [], f"{signal[0].upper()}{signal[1:]}"
    for bits, line in rows.groupby("bits", sort=False):
        half = line.iloc[(line["depth"] - 0.5).abs().argmin()]
        words.append(f"at {bits} bits {half['estimate']:.2f} half-way up and {line['estimate'].iloc[-1]:.2f} at last")
    return finish(
        lines(rows, x.axis(format="%"), y, bits_color(rows), tooltip=tips),
        f"{title} by depth: {model}, {method}",
        f"{title} of {model} by depth, one line with a 95% band per bit width: {'; '.join(words)}.",
        height=200,
    )
