"""In: tidy tables. Out: pictures; one module a stage, one theme and palette for all, and scripts that draw offline."""

from quantcliff.charts.bundle import vega_bundle
from quantcliff.charts.palette import BITS, CONTROL, FULL, FULL_NAME, METHODS, MODELS, NEUTRAL, color, scale
from quantcliff.charts.row import Row
from quantcliff.charts.theme import bits_color, decades, finish, intervals, lines, method_color, reference, theme

__all__ = ["BITS", "CONTROL", "FULL", "FULL_NAME", "METHODS", "MODELS", "NEUTRAL", "Row", "bits_color", "color",
           "decades", "finish", "intervals", "lines", "method_color", "reference", "scale", "theme",
           "vega_bundle"]  # fmt: skip
