"""Alternative text: what a chart's own data say, read from the chart itself."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

CHANNELS = ("x", "y", "color", "size")
"""What a mark can show as a quantity."""

LONGEST = 4
"""Quantities named at most."""


def ranges(chart: alt.TopLevelMixin) -> str:
    """Which quantities a chart draws, from where to where; empty where it draws none.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"layer": [0, 7], "share": [0.25, 0.5]})
        >>> ranges(alt.Chart(table).mark_line().encode(x="layer:O", y=alt.Y("share:Q", axis=alt.Axis(format="%"))))
        'Drawn: share 25% to 50%.'
    """
    whole = chart.to_dict()
    found: dict[str, tuple[float, float, bool]] = {}
    for channel, rows in _drawn(whole, whole.get("datasets", {}), []):
        values = [float(row[channel["field"]]) for row in rows if _is_number(row.get(channel["field"]))]
        if values:
            low, high, percent = found.get(name := _name(channel), (math.inf, -math.inf, False))
            found[name] = min(low, *values), max(high, *values), percent or _is_percent(channel)
    said = [f"{name} {_span(*drawn)}" for name, drawn in list(found.items())[:LONGEST]]
    return f"Drawn: {', '.join(said)}." if said else ""


def _drawn(
    part: Mapping[str, Any], data: Mapping[str, Any], rows: list[Any]
) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Quantitative channels of a specification and of all its parts, each with the rows it reads."""
    if "data" in part:
        rows = data.get(part["data"].get("name"), part["data"].get("values", []))
    for name in CHANNELS:
        channel = part.get("encoding", {}).get(name, {})
        if channel.get("type") == "quantitative" and "field" in channel:
            yield channel, rows
            if end := part["encoding"].get(f"{name}2", {}).get("field"):  # of a band or a bar
                yield {**channel, "title": _name(channel), "field": end}, rows
    inner = [child for kind in ("layer", "hconcat", "vconcat", "concat") for child in part.get(kind, [])]
    for child in [*inner, *([part["spec"]] if "spec" in part else [])]:
        yield from _drawn(child, data, rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _name(channel: Mapping[str, Any]) -> str:
    title = channel.get("title") or channel["field"]
    return " ".join(title) if isinstance(title, list) else str(title)


def _is_percent(channel: Mapping[str, Any]) -> bool:
    return any("%" in str((channel.get(part) or {}).get("format", "")) for part in ("axis", "legend"))


def _span(low: float, high: float, percent: bool) -> str:
    ends = dict.fromkeys(f"{value:.0%}" if percent else f"{value:,.3g}" for value in (low, high))
    return " to ".join(end.removeprefix("-") if end in ("-0%", "-0") else end for end in ends)
