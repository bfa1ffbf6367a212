"""The chart that sets models side by side: their verdicts."""


import altair as alt
import pandas as pd

from quantcliff.charts.theme import finish

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
    rows = verdicts[["model", "method", "bits", "mode", "kept"]].assign(
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
