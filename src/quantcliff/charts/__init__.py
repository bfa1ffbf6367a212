"""In: tidy tables. Out: pictures; one module a stage, one theme for all, and the scripts that draw them offline."""

from quantcliff.charts.bundle import vega_bundle
from quantcliff.charts.row import Row
from quantcliff.charts.theme import (
    BITS,
    FULL,
    FULL_NAME,
    METHODS,
    MODELS,
    NEUTRAL,
    bits_color,
    decades,
    finish,
    intervals,
    lines,
    method_color,
    reference,
    theme,
)

__all__ = ["BITS", "FULL", "FULL_NAME", "METHODS", "MODELS", "NEUTRAL", "Row", "bits_color", "decades", "finish",
           "intervals", "lines", "method_color", "reference", "theme", "vega_bundle"]  # fmt: skip
