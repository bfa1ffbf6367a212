"""Charts of healing: what comes back with how much text, what the controls bring back, and streams layer by layer."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.theme import SHORT, finish, intervals, lines

PARTS = {"healing": "in the text", "held-out": "never seen"}
PERCENT = alt.Axis(format="%")


def _kept(table: pd.DataFrame, method: str) -> pd.DataFrame:
    rows = table[(table["method"] == method) & (table["measure"] == "kept") & table["part"].isin(list(PARTS))]
    return rows.assign(facts=rows["part"].map(PARTS))


def _facts() -> alt.Color:
    return alt.Color("facts:N", title="facts", scale=palette.scale(PARTS.values()), legend=SHORT)


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
HEALED = "healed"


def smollm2(table: pd.DataFrame) -> alt.LayerChart:
    """Answers kept by SmolLM2 over tokens of text: plain rounding as it is and healed in a line, controls and GPTQ as
    points; the table healing of `healing.smollm2`."""
    rows = table[(table["part"] == "all") & (table["measure"] == "kept")]
    bare = rows["sequences"] == 0
    rows = rows[~bare | (rows["method"] == "rtn")].sort_values("tokens")
    arm = rows["arm"].where(rows["sequences"] > 0, HEALED)
    method = rows["method"].map(CALLED)
    rows = rows.assign(
        arm=arm, who=method.where(arm == HEALED, "control"), model=method + ", " + arm,
        text=[f"{tokens:,}" for tokens in rows["tokens"]],
    )  # fmt: skip
    own = rows["model"] == f"rounding, {HEALED}"
    color = alt.Color("who:N", title=None, scale=palette.scale(dict.fromkeys(["rounding", *rows["who"]])), legend=SHORT)
    arms = [HEALED, *dict.fromkeys(rows["arm"][rows["arm"] != HEALED])]
    shapes = alt.Scale(domain=arms, range=["circle", "triangle-up", "square", "diamond"][: len(arms)])
    grey = alt.Legend(orient="bottom", columns=3, symbolFillColor=palette.FULL, symbolStrokeColor=palette.FULL)
    x = alt.X("text:N", title="tokens of text", sort=list(dict.fromkeys(rows["text"])))
    y = alt.Y("estimate:Q", title="answers kept", axis=PERCENT, scale=alt.Scale(domainMin=0))
    tips = ["model", alt.Tooltip("text:N", title="tokens"), *_tips()[1:]]
    words = "; ".join(f"{row.model}, {row.text} tokens: {row.estimate:.1%}" for row in rows.itertuples())
    line = lines(rows[own], x, y, color, tooltip=tips)
    base = alt.Chart(rows[~own]).encode(x=x, color=color)
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="answers kept"), y2="high:Q")
    shape = alt.Shape("arm:N", title=None, scale=shapes, legend=grey)
    return finish(
        alt.layer(line, bars, base.mark_point(size=60).encode(y=y, shape=shape, tooltip=tips)),
        "SmolLM2 at 2 bits: what text brings back",
        f"Share of full precision's right answers that SmolLM2 keeps at 2 bits: {words}.", height=240,
    )  # fmt: skip


def by_depth(table: pd.DataFrame, signal: str) -> alt.LayerChart:
    """One signal layer by layer, a line per model: a colour for its method, dashes for what was done to it.

    Args:
        table: `beside`'s, with models called "METHOD, WHAT WAS DONE".
    """
    rows = table[(table["signal"] == signal) & table["layer"].notna()].astype({"layer": int})
    named = rows["model"].str.split(", ", n=1)
    rows = rows.assign(method=named.str[0], done=named.str[-1])
    methods, done = (list(dict.fromkeys(rows[name])) for name in ("method", "done"))
    dashes = alt.Scale(domain=done, range=[[5, 3], [1, 0], [2, 2]])
    below = alt.Legend(orient="bottom", columns=3, symbolType="stroke", symbolSize=300)
    means = rows.groupby("model", sort=False)["value"].mean()
    words = "; ".join(f"{name} {value:.2f} on average" for name, value in means.items())
    color = alt.Color("method:N", title=None, scale=palette.scale(methods), legend=SHORT)
    chart = lines(
        rows, alt.X("layer:O"), alt.Y("value:Q", title=signal), color, tooltip=["model", "layer", "value"],
        dash=alt.StrokeDash("done:N", title=None, scale=dashes, legend=below),
    )  # fmt: skip
    return finish(chart, f"{signal} by depth", f"{signal} after each layer, one line per model: {words}.", height=220)
