"""Charts of healing: what comes back with how much text, what the controls bring back, and streams layer by layer."""

import altair as alt
import pandas as pd

from quantcliff.charts.theme import FULL, NEUTRAL, SHORT, finish, intervals, lines

PARTS = {"healing": "in the text", "held-out": "never seen"}
MODELS = ("#7d5ba6", NEUTRAL, FULL, "#b8741a", "#16937a")
PERCENT = alt.Axis(format="%")


def _kept(table: pd.DataFrame, method: str) -> pd.DataFrame:
    rows = table[(table["method"] == method) & (table["measure"] == "kept") & table["part"].isin(list(PARTS))]
    return rows.assign(facts=rows["part"].map(PARTS))


def _facts() -> alt.Color:
    scale = alt.Scale(domain=list(PARTS.values()), range=[NEUTRAL, "#b8741a"])
    return alt.Color("facts:N", title="facts", scale=scale, legend=SHORT)


def _tips(*names: str) -> list[str | alt.Tooltip]:
    shares = {"estimate": "kept", "low": "from", "high": "to"}
    return [*names, "facts", *(alt.Tooltip(name, format=".1%", title=title) for name, title in shares.items()), "n"]


def curve(table: pd.DataFrame, method: str = "gptq") -> alt.LayerChart:
    """Answers kept over tokens of text, on facts that stand in the text and on others; `measure`'s table."""
    rows = _kept(table, method)
    rows = rows[rows["arm"] == "healed"]
    words = "; ".join(f"{row.tokens:,} tokens, {row.facts}: {row.estimate:.0%}" for row in rows.itertuples())
    scale = alt.Scale(type="log", nice=False, padding=10)
    return finish(
        lines(
            rows, alt.X("tokens:Q", title="tokens of text", scale=scale, axis=alt.Axis(values=sorted(rows["tokens"]))),
            alt.Y("estimate:Q", title="answers kept", axis=PERCENT, scale=alt.Scale(domainMin=0)), _facts(),
            tooltip=_tips("tokens"),
        ),
        "More text, more answers?",
        f"Share of full precision's right answers kept after healing, over tokens of text: {words}.",
        height=220,
    )  # fmt: skip


def controls(table: pd.DataFrame, sequences: int, method: str = "gptq") -> alt.LayerChart:
    """Answers kept by the model as it is and by every arm of as much text; `measure`'s table."""
    rows = _kept(table, method)
    rows = rows[rows["sequences"].isin([0, sequences])]
    words = "; ".join(f"{row.arm}, {row.facts}: {row.estimate:.0%}" for row in rows.itertuples())
    return finish(
        intervals(
            rows, alt.X("arm:N", title=None, sort=None, axis=alt.Axis(labelLimit=90)),
            alt.Y("estimate:Q", title="answers kept", axis=PERCENT, scale=alt.Scale(domainMin=0)), _facts(),
            offset="facts", tooltip=_tips("arm"),
        ),
        "The same steps, spent on something else",
        f"Share of full precision's right answers kept, by what was trained, with as much text each: {words}.",
        height=220,
    )  # fmt: skip


CALLED = {"rtn": "rounding", "gptq": "GPTQ"}


def smollm2(table: pd.DataFrame) -> alt.LayerChart:
    """Answers kept by SmolLM2 over tokens of text: plain rounding as it is and healed in a line, controls and GPTQ as
    points; the table healing of `healing.smollm2`."""
    rows = table[(table["part"] == "all") & (table["measure"] == "kept")]
    bare = rows["sequences"] == 0
    rows = rows[~bare | (rows["method"] == "rtn")].sort_values("tokens")
    rows = rows.assign(
        model=[f"{CALLED[row.method]}, {row.arm if row.sequences else 'healed'}" for row in rows.itertuples()],
        text=[f"{tokens:,}" for tokens in rows["tokens"]],
    )
    own = rows["model"] == "rounding, healed"
    names = ["rounding, healed", *dict.fromkeys(rows["model"][~own])]
    scale = alt.Scale(domain=names, range=list(MODELS[: len(names)]))
    color = alt.Color("model:N", title=None, scale=scale, legend=alt.Legend(columns=1))
    x = alt.X("text:N", title="tokens of text", sort=list(dict.fromkeys(rows["text"])))
    y = alt.Y("estimate:Q", title="answers kept", axis=PERCENT, scale=alt.Scale(domainMin=0))
    tips = ["model", alt.Tooltip("text:N", title="tokens"), *_tips()[1:]]
    words = "; ".join(f"{row.model}, {row.text} tokens: {row.estimate:.1%}" for row in rows.itertuples())
    return finish(
        alt.layer(lines(rows[own], x, y, color, tooltip=tips), intervals(rows[~own], x, y, color, tooltip=tips)),
        "SmolLM2 at 2 bits: what text brings back",
        f"Share of full precision's right answers that SmolLM2 keeps at 2 bits: {words}.", height=240,
    )  # fmt: skip


def by_depth(table: pd.DataFrame, signal: str) -> alt.LayerChart:
    """One signal layer by layer, a line per model; `beside`'s table."""
    rows = table[(table["signal"] == signal) & table["layer"].notna()].astype({"layer": int})
    names = list(dict.fromkeys(rows["model"]))
    scale = alt.Scale(domain=names, range=list(MODELS[: len(names)]))
    color = alt.Color("model:N", title=None, scale=scale)
    means = rows.groupby("model", sort=False)["value"].mean()
    words = "; ".join(f"{name} {value:.2f} on average" for name, value in means.items())
    return finish(
        lines(rows, alt.X("layer:O"), alt.Y("value:Q", title=signal), color, tooltip=["model", "layer", "value"]),
        f"{signal} by depth", f"{signal} after each layer, one line per model: {words}.", height=220,
    )  # fmt: skip
