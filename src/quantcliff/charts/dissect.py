"""One fact, dissected: what is said, the lens, patches and attention, of the fact, the method and the bits chosen.

In: the tables of `diagnosis.dissect`, of several models. Out: one row for each fact and model (`cases`), with the
numbers of all its layers in lists, which the charts unfold.
"""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.controls import Choice, Slider, follows
from quantcliff.charts.palette import FULL, GOOD, METHODS
from quantcliff.charts.theme import finish

WHOLE_METHOD = "full"
"""The method that stands for full precision."""

HERE = "datum.fact == fact && datum.method == method && datum.bits == {bits}[+step]"
WHOLE = f"datum.fact == fact && datum.method == '{WHOLE_METHOD}'"


def cases(name: str, table: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Everything about one model.

    Args:
        name: of the model.
        table, facts: as `diagnosis.dissect.measure` and `facts` return them.

    Returns:
        One row for each fact and variant: model, fact ("atlas 3"), kind, prompt, right, tokens (numbered), method,
        bits; words and shares (what is said); rank and probability (lens, by layer); patched and patched_rank (by
        layer, missing for full precision); attention (percent, by layer and token).
    """
    said, lens, patch, seen = (table[table["what"] == what] for what in ("said", "lens", "patch", "attention"))
    texts = facts.set_index("fact")
    by = ["fact", "variant", "method", "bits"]

    def lists(rows: pd.DataFrame, order: str, **columns: str) -> pd.DataFrame:
        rows = rows.astype({"rank": int}) if "rank" in columns.values() else rows
        groups = rows.sort_values(order).groupby(by, sort=False)
        return pd.DataFrame({new: groups[old].agg(_plain) for new, old in columns.items()})

    parts = [lists(said, "place", words="token", shares="probability"),
             lists(lens, "layer", rank="rank", probability="probability"),
             lists(patch, "layer", patched="probability", patched_rank="rank")]  # fmt: skip
    percent = seen.assign(percent=(100 * seen["probability"]).round().astype(int)).sort_values(["layer", "place"])
    layers = percent.groupby([*by, "layer"], sort=False)["percent"].agg(_plain)
    parts.append(layers.groupby(by, sort=False).agg(list).rename("attention").to_frame())
    found = pd.concat(parts, axis=1).reset_index()
    about = texts.loc[found["fact"], ["kind", "prompt", "right", "tokens"]].reset_index(drop=True)
    found = pd.concat([found, about], axis=1).assign(model=name)
    for column in ("tokens", "words"):
        found[column] = [_numbered(row) for row in found[column]]
    found = found.sort_values(["fact", "method", "bits"], ignore_index=True)
    return found.assign(fact=name + " " + found["fact"].astype(str))


def _plain(values: pd.Series) -> list:
    """Numbers and words as JSON has them, probabilities to 4 digits."""
    kind = values.dtype.kind
    return (values.astype(float).round(4) if kind == "f" else values.astype(int) if kind in "iu" else values).tolist()


def _numbered(tokens: Sequence[str]) -> list[str]:
    """`["1 The", "2 city"]`: no two the same, and in order."""
    return [f"{n} {token.strip() or repr(token)}" for n, token in enumerate(tokens, 1)]


def widths(table: pd.DataFrame) -> list[int]:
    """Bits of the variants, most first."""
    return sorted(set(table.loc[table["method"] != WHOLE_METHOD, "bits"].astype(int)), reverse=True)


def controls(table: pd.DataFrame, start: int = 3) -> tuple[Choice, Choice, Slider]:
    """The lists of facts and of methods, and the slider over widths."""
    one = table.drop_duplicates("fact")
    groups = {
        f"{model}: {kind}": {row.fact: f"{row.prompt} ... ({row.right})" for row in part.itertuples()}
        for (model, kind), part in one.groupby(["model", "kind"], sort=False)
    }
    own = set(table["method"]) - {WHOLE_METHOD}
    methods = [name for name in METHODS if name in own] + sorted(own - METHODS.keys())
    held = widths(table)
    first = held.index(start) if start in held else 0
    return (
        Choice("dissect-fact", "Fact", groups),
        Choice("dissect-method", "Method", {"": {name: name.upper() for name in methods}}),
        Slider("dissect-bits", "Bits", [f"{bits} bits" for bits in held], first),
    )


def _follow(chart: alt.LayerChart | alt.Chart, table: pd.DataFrame) -> alt.LayerChart | alt.Chart:
    fact, method, slider = controls(table)
    return chart.add_params(follows("fact", fact), follows("method", method), follows("step", slider))


def _color(table: pd.DataFrame) -> alt.Color:
    return alt.Color("bits:N", scale=palette.scale(widths(table)), legend=None)


def _own(table: pd.DataFrame, *columns: str, whole: bool = False) -> alt.Chart:
    """The chosen case, of full precision or of the chosen variant, with its layers numbered and `columns` unfolded."""
    rows = table[(table["method"] == WHOLE_METHOD) == whole][["fact", "method", "bits", *columns]]
    rows = rows.assign(layer=[list(range(len(row))) for row in rows[columns[0]]])
    chart = alt.Chart(rows).transform_filter(WHOLE if whole else HERE.format(bits=widths(table)))
    return chart.transform_flatten([*columns, "layer"])


def said(table: pd.DataFrame, whole: bool) -> alt.LayerChart:
    """The five words that full precision (`whole`), or the chosen variant, finds likeliest; the right one marked."""
    rows = table[(table["method"] == WHOLE_METHOD) == whole][["fact", "method", "bits", "words", "shares", "rank"]]
    last = [int(ranks[-1]) for ranks in rows["rank"]]
    marks = [[n == rank for n in range(1, len(words) + 1)] for words, rank in zip(rows["words"], last, strict=True)]
    chart = alt.Chart(rows.assign(right=marks).drop(columns="rank"))
    chart = chart.transform_filter(WHOLE if whole else HERE.format(bits=widths(table)))
    base = chart.transform_flatten(["words", "shares", "right"]).encode(
        y=alt.Y("words:N", title=None, axis=alt.Axis(labelLimit=140)),
        x=alt.X("shares:Q", title="probability", scale=alt.Scale(domain=[0, 1]), axis=PERCENT),
        tooltip=["words", alt.Tooltip("shares:Q", title="probability", format=".1%")],
    )
    color = alt.condition("datum.right", alt.value(GOOD), alt.value(FULL))
    bars = base.mark_bar(height=14).encode(color=color)
    text = base.transform_calculate(mark="datum.right ? 'right' : ''").mark_text(align="left", dx=4)
    who = "Full precision" if whole else "The quantized model"
    right = sum(row[-1] == 1 for row in table.loc[(table["method"] == WHOLE_METHOD) == whole, "rank"])
    return _follow(finish(
        alt.layer(bars, text.encode(text="mark:N")), f"{who} says",
        f"{who}'s five likeliest next words for the fact that is chosen, the right one marked. It is first in {right} "
        f"of {len(rows)} cases.", height=110,
    ), table)  # fmt: skip


PERCENT = alt.Axis(format="%", tickCount=4)


def _depth(title: str) -> alt.X:
    return alt.X("layer:Q", title=title, axis=alt.Axis(tickMinStep=1, format="d"))


def lens(table: pd.DataFrame) -> alt.LayerChart:
    """Where the answer stands if each layer's stream were the last, on a logarithmic axis; full precision in grey."""
    worst = max(max(row) for row in table["rank"])
    decades = [10.0**n for n in range(len(str(worst)) + 1)]
    scale = alt.Scale(type="log", domain=[decades[-1], 1], clamp=True)
    y = alt.Y("rank:Q", title="rank of the answer", scale=scale, axis=alt.Axis(values=decades, format=",d"))
    tips = ["layer:Q", alt.Tooltip("rank:Q", format=",d"), alt.Tooltip("probability:Q", format=".2%")]
    grey = _own(table, "rank", "probability", whole=True)
    grey = grey.mark_line(color=FULL, strokeDash=[4, 4], point={"color": FULL})
    line = _own(table, "rank", "probability").mark_line(point=True).encode(color=_color(table))
    layers = [part.encode(x=_depth("after layer"), y=y, tooltip=tips) for part in (grey, line)]
    tops = {name: [row[-1] for row in part["rank"]] for name, part in table.groupby(table["method"] == WHOLE_METHOD)}
    words = f"Rank 1 after the last layer in {sum(rank == 1 for rank in tops[False])} of {len(tops[False])} cases."
    return _follow(finish(
        alt.layer(*layers), "The answer on its way up",
        "Rank that the lens gives the right answer, by layer, of the chosen model, and in grey of full precision. "
        f"{words}", height=190,
    ), table)  # fmt: skip


def patches(table: pd.DataFrame) -> alt.LayerChart:
    """The answer's probability if all tokens are clean up to a layer; grey: full precision's and the model's own."""
    quantized = table[table["method"] != WHOLE_METHOD]
    scale = alt.Scale(domain=[0, 1])
    y = alt.Y("patched:Q", title="probability of the answer", scale=scale, axis=PERCENT)
    chance = alt.Tooltip("patched:Q", title="probability", format=".1%")
    tips = ["layer:Q", chance, alt.Tooltip("patched_rank:Q", title="rank", format=",d")]
    line = _own(quantized, "patched", "patched_rank").mark_line(point=True)
    line = line.encode(x=_depth("clean up to layer"), y=y, tooltip=tips, color=_color(table))
    ends = table[["fact", "method", "bits"]].assign(top=[row[-1] for row in table["probability"]])
    ways = {WHOLE: "full precision", HERE.format(bits=widths(table)): "without a patch"}
    layers = [line]
    for number, (where, words) in enumerate(ways.items()):
        data = alt.Chart(ends).transform_filter(where)
        layers.append(data.mark_rule(strokeDash=[4, 4], opacity=0.6).encode(y=alt.Y("top:Q", scale=scale)))
        side = {"align": "left", "dx": 4} if number else {"align": "right", "dx": -4}
        text = data.mark_text(dy=-6, fontSize=11, **side).encode(y="top:Q", text=alt.value(words))
        layers.append(text.encode(x=alt.value(0 if number else "width")))
    back = sum(1 in row for row in quantized["patched_rank"].map(lambda row: row[:-1]))
    return _follow(finish(
        alt.layer(*layers), "Clean input up to a layer",
        "Probability of the right answer if full precision's stream goes in after a layer, by layer. In "
        f"{back} of {len(quantized)} cases it comes first somewhere before the last layer.", height=190,
    ), table)  # fmt: skip


def attention(table: pd.DataFrame, whole: bool) -> alt.Chart:
    """Where the last token looks, by layer and token of the prompt, mean over heads."""
    who = "full precision" if whole else "the quantized model"
    chart = _own(table, "attention", whole=whole)
    chart.data = chart.data.assign(tokens=table.loc[chart.data.index, "tokens"])
    chart = chart.transform_flatten(["attention", "tokens"])
    order = alt.EncodingSortField("place", op="min")
    chart = chart.transform_calculate(place="+split(datum.tokens, ' ')[0]")
    color = alt.Color("attention:Q", title="percent", scale=alt.Scale(scheme="viridis", domain=[0, 60], clamp=True),
                      legend=None if not whole else alt.Legend(orient="bottom", gradientLength=120))  # fmt: skip
    cells = chart.mark_rect().encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelOverlap=True)),
        y=alt.Y("tokens:N", title=None, sort=order, axis=alt.Axis(labelLimit=110, labelOverlap=False)), color=color,
        tooltip=["tokens:N", "layer:O", alt.Tooltip("attention:Q", title="percent")],
    )  # fmt: skip
    rows = table[(table["method"] == WHOLE_METHOD) == whole]["attention"]
    first = sum(sum(layer[0] for layer in row) / len(row) for row in rows) / len(rows)
    return _follow(finish(
        cells, f"Attention of {who}",
        f"Share of its attention that the last token of the prompt gives to each token, by layer, mean over heads, in "
        f"{who}. The first token gets {first:.0f}% on average.", height=220,
    ), table)  # fmt: skip


def sentences(table: pd.DataFrame) -> dict[str, str]:
    """What the charts show of each case, for `controls.told`."""
    full = table[table["method"] == WHOLE_METHOD].set_index("fact")
    place = {bits: number for number, bits in enumerate(widths(table))}
    return {
        f"{row['fact']}|{row['method']}|{place[int(row['bits'])]}": _sentence(row, full.loc[row["fact"]].to_dict())
        for row in table[table["method"] != WHOLE_METHOD].to_dict("records")
    }


def _sentence(row: Mapping, full: Mapping) -> str:
    word, right = row["words"][0].split(" ", 1)[1], row["right"].split(" | ")[0]
    rank, share, before = row["rank"][-1], row["probability"][-1], full["probability"][-1]
    head = f'{row["method"].upper()} at {row["bits"]} bits says "{word}" ({row["shares"][0]:.0%})'
    if rank == 1:
        return f"{head}, which is right ({right}; full precision {before:.0%})."
    back = [layer for layer, one in enumerate(row["patched_rank"][:-1]) if one == 1]
    way = f"comes back after layer {back[0]}" if back else "comes back nowhere below the last layer"
    return (
        f"{head}. The right answer, {right}, is at rank {rank:,} with {share:.1%} (full precision {before:.0%}). "
        f"With clean input it {way}."
    )
