"""Format bugs planted on purpose, to see whether the check finds them. In: a checkpoint. Out: a copy with a fault."""

from quantcliff.quantizers.planted.before import finetuned, half_smoothed, setting, transposed
from quantcliff.quantizers.planted.stored import (
    changed,
    exchanged,
    group_size_misread,
    moved,
    nibbles_swapped,
    of_other_layer,
    rows_swapped,
    scaled,
    scales_reversed,
    swapped,
)

__all__ = [
    "changed",
    "exchanged",
    "finetuned",
    "group_size_misread",
    "half_smoothed",
    "moved",
    "nibbles_swapped",
    "of_other_layer",
    "rows_swapped",
    "scaled",
    "scales_reversed",
    "setting",
    "swapped",
    "transposed",
]
