"""Rows of the verdict's table: one number as a whole, its profile over layers, or why there is none."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from quantcliff.stats import Interval

Row = dict[str, Any]
"""signal, layer (None: as a whole), value, low, high, n, note."""

NAMES = ("signal", "layer", "value", "low", "high", "n")


def whole(name: str, value: Interval, n: int, note: str = "") -> Row:
    return dict(zip(NAMES, (name, None, *map(float, value), n), strict=True)) | {"note": note}


def layered(name: str, layers: Sequence[int], values: Interval, n: int) -> list[Row]:
    """One row a layer; `values` are arrays in the order of `layers`."""
    rows = zip(layers, *(np.ravel(part) for part in values), strict=True)
    return [dict(zip(NAMES, (name, int(row[0]), *row[1:], n), strict=True)) | {"note": ""} for row in rows]


def nothing(name: str, why: str) -> Row:
    return whole(name, Interval(np.nan, np.nan, np.nan), 0, why)
