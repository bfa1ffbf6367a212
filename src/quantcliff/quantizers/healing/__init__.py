"""Healing: a quantized checkpoint trained layer by layer towards full precision's outputs, on its own grid.

In: a base, a quantized checkpoint, text. Out: a checkpoint of the same bits and format.
"""

from quantcliff.quantizers.healing.fit import TARGETS, Recipe
from quantcliff.quantizers.healing.run import DOCUMENTS, REPORT, check, heal, improved, passes, rows_of, tried
from quantcliff.quantizers.healing.term import GRADIENT, RANDOM

__all__ = ["DOCUMENTS", "GRADIENT", "RANDOM", "REPORT", "TARGETS", "Recipe", "check", "heal", "improved", "passes",
           "rows_of", "tried"]  # fmt: skip
