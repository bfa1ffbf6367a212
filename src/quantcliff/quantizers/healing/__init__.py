"""Healing: a quantized checkpoint trained layer by layer towards full precision's outputs, on its own grid.

Then, where asked for, its scales end to end on next tokens. In: a base, a quantized checkpoint, text. Out: a checkpoint
of the same bits and format.
"""

from quantcliff.quantizers.healing.fit import TARGETS, Recipe
from quantcliff.quantizers.healing.run import DOCUMENTS, REPORT, check, heal, improved, passes, rows_of, tried
from quantcliff.quantizers.healing.term import GRADIENT, RANDOM
from quantcliff.quantizers.healing.whole import WHOLE_REPORT, EndToEnd, end_to_end, heal_whole

__all__ = ["DOCUMENTS", "GRADIENT", "RANDOM", "REPORT", "TARGETS", "WHOLE_REPORT", "EndToEnd", "Recipe", "check",
           "end_to_end", "heal", "heal_whole", "improved", "passes", "rows_of", "tried"]  # fmt: skip
