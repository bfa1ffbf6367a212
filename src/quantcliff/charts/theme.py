"""One look for every chart: theme, legends of colours, and the few shapes that stages share.

Chart functions read a tidy table and return an Altair chart. All text is drawn in `currentColor`, so a chart takes the
colour of the page around it, light or dark. Charts are drawn as SVG and as wide as their column.
"""

import math
import textwrap
from collections.abc import Iterable
from typing import Literal, TypeVar

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from quantcliff.charts.alternative import ranges
from quantcliff.charts.palette import FULL_NAME, METHODS, NEUTRAL, UNROUNDED, scale, strays

SHORT = alt.Legend(columns=4)
"""Legend of entries so short that four of them stand side by side on a phone."""

AnyChart = TypeVar("AnyChart", bound=alt.TopLevelMixin)


@alt.theme.register("quantcliff", enable=True)
def theme() -> alt.theme.ThemeConfig:
    ink = "currentColor"
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    lines = {"domainColor": ink, "tickColor": ink, "gridColor": ink}
    return {
        "config": {
            "background": "transparent",
            "font": "-apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
            "view": {"stroke": None, "continuousHeight": 240},
            "axis": {
                **text,
                **lines,
                "gridOpacity": 0.15,
                "domainOpacity": 0.5,
                "tickOpacity": 0.5,
                "labelOverlap": True,
                "titlePadding": 8,
            },
            "axisX": {"grid": False, "labelAngle": 0},
            "legend": {**text, "orient": "top", "columns": 2, "symbolStrokeWidth": 2, "symbolOpacity": 1},
            "header": text,
            "title": {"color": ink, "subtitleColor": ink, "anchor": "start", "fontSize": 13, "fontWeight": 600},
            "text": {"color": ink},
            "rule": {"color": ink},
            "mark": {"color": NEUTRAL},
            "line": {"strokeWidth": 2},
            "point": {"filled": True, "size": 45, "opacity": 1},
        },
        "usermeta": {"embedOptions": {"renderer": "svg", "actions": False}},
    }


def finish(chart: AnyChart, title: str, description: str, height: int | None = 240) -> AnyChart:
    """Title (wrapped to fit a phone), alternative text, and the width of the column around the chart.

    Facets and concatenations cannot stretch: they keep the widths of their parts, and the page lets them scroll.

    Args:
        description: what there is to see; which quantities are drawn, from where to where, is added to it.

    Raises:
        ValueError: no description is given, or something has a colour other than its own (`palette`).
    """
    if not description.strip():
        raise ValueError(f"the chart {title!r} has no description")
    if wrong := ", ".join(dict.fromkeys(strays(chart.to_dict()))):
        raise ValueError(f"the chart {title!r} has its own colours for {wrong}; take those of charts.palette")
    described = f"{description} {ranges(chart)}".strip()
    chart = chart.properties(title=textwrap.wrap(title, 48), description=described)
    if isinstance(chart, alt.Chart | alt.LayerChart):
        chart = chart.properties(width="container", **({} if height is None else {"height": height}))
    return chart


def bits_color(table: pd.DataFrame, column: str = "bits", title: str = "bits") -> alt.Color:
    """Colour by bit width, from most to least, of the widths the table holds; 16 bits and more are full precision."""
    widths = sorted({int(value) for value in table[column].dropna()}, reverse=True)
    named = SHORT.copy()
    named.labelExpr = f"datum.value >= {UNROUNDED} ? '{FULL_NAME}' : datum.label"
    return alt.Color(f"{column}:N", title=title, scale=scale(widths), legend=named)


def method_color(table: pd.DataFrame, column: str = "method", title: str = "method") -> alt.Color:
    """Colour by quantization method, in the order gptq, awq, rtn of those the table holds, others last."""
    held = set(table[column].dropna())
    names = [name for name in METHODS if name in held] + sorted(held - METHODS.keys())
    return alt.Color(f"{column}:N", title=title, scale=scale(names), legend=SHORT)


def models(table: pd.DataFrame) -> list[str]:
    """What the model of each row is called: "gptq 4", by its columns method and bits, or full precision."""
    pairs = zip(table["method"], table["bits"], strict=True)
    return [FULL_NAME if bits >= UNROUNDED else f"{method} {bits:g}" for method, bits in pairs]


def lines(
    table: pd.DataFrame,
    x: alt.X,
    y: alt.Y,
    color: alt.Color,
    low: str | None = "low",
    high: str | None = "high",
    tooltip: Iterable[str | alt.Tooltip] = (),
    dash: alt.StrokeDash | None = None,
) -> alt.LayerChart:
    """Lines with points, over a band from `low` to `high` where both columns are given.

    `dash` tells lines of one colour apart; bands, which have no stroke, are told apart by its column too.
    """
    base = alt.Chart(table).encode(x=x, color=color)
    line = base.mark_line(point=True).encode(y=y, tooltip=list(tooltip))
    if dash is not None:
        base, line = base.encode(detail=alt.Detail(dash.shorthand)), line.encode(strokeDash=dash)
    layers: list[alt.Chart] = []
    if low and high:
        layers.append(base.mark_area(opacity=0.18).encode(y=_end(y, low), y2=alt.Y2(high, title=_title(y))))
    return alt.layer(*layers, line)


def intervals(
    table: pd.DataFrame,
    x: alt.X,
    y: alt.Y,
    color: alt.Color,
    low: str = "low",
    high: str = "high",
    offset: str | None = None,
    tooltip: Iterable[str | alt.Tooltip] = (),
) -> alt.LayerChart:
    """Points with interval bars from `low` to `high`, for a nominal x.

    `offset` sets groups side by side, with more room between two values of x than within one.
    """
    base = alt.Chart(table).encode(x=x, color=color)
    if offset:
        base = base.encode(xOffset=alt.XOffset(f"{offset}:N", scale=alt.Scale(padding=1)))
    bars = base.mark_rule(strokeWidth=2).encode(y=_end(y, low), y2=alt.Y2(high, title=_title(y)))
    points = base.mark_point(size=60).encode(y=y, tooltip=list(tooltip))
    return alt.layer(bars, points)


def decades(*values: ArrayLike) -> alt.Axis:
    """Axis of a logarithmic scale that names powers of ten only; 2 and 5 as well where there would be fewer than two.

    Args:
        values: all that is drawn on the axis, in any number of columns; what is not above 0 has no place there.

    >>> decades([0.7, 30], [4000]).to_dict()["values"]
    [0.1, 1, 10, 100, 1000, 10000]
    >>> decades([3, 40]).to_dict()["values"]
    [1, 2, 5, 10, 20, 50, 100]
    """
    every = np.concatenate([np.ravel(np.asarray(column, dtype=float)) for column in values])
    drawn = every[every > 0] if (every > 0).any() else np.ones(1)
    first, last = math.floor(np.log10(drawn.min())), math.ceil(np.log10(drawn.max()))
    last, seen = max(last, first + 1), range(math.ceil(np.log10(drawn.min())), math.floor(np.log10(drawn.max())) + 1)
    steps = (1,) if len(seen) > 1 else (1, 2, 5)
    marks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    kept = [round(mark, 12) for mark in marks if mark <= 10.0**last]
    return alt.Axis(values=[int(mark) if mark >= 1 else mark for mark in kept], format=",~g")


def _title(y: alt.Y) -> str | None:
    title = y.to_dict().get("title", str(y.shorthand).split(":")[0])
    return title if title is None else str(title)


def _end(y: alt.Y, column: str) -> alt.Y:
    """The same axis, read from another column."""
    end = y.copy()
    end.shorthand = f"{column}:Q"
    return end.title(_title(y))


def reference(value: float, text: str = "", side: Literal["left", "right"] = "left") -> alt.LayerChart:
    """A dashed horizontal line at a y value, with its meaning written at one end."""
    data = pd.DataFrame({"value": [value], "text": [text]})
    rule = alt.Chart(data).mark_rule(strokeDash=[4, 4], opacity=0.6).encode(y="value:Q")
    end = {"left": 0, "right": "width"}[side]
    label = alt.Chart(data).mark_text(align=side, dx=4 if side == "left" else -4, dy=-6, fontSize=11)
    return alt.layer(rule, label.encode(y="value:Q", x=alt.value(end), text="text:N"))
