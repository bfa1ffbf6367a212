"""In: a full-precision checkpoint, a scheme, calibration text. Out: a quantized checkpoint; and ways back from one."""

from quantcliff.quantizers import rounding
from quantcliff.quantizers.calibration import (
    CALIBRATION_DOCUMENTS,
    calibration_text,
    check_calibration,
    longest_input,
    token_batches,
)
from quantcliff.quantizers.checkpoints import check, export, quantize
from quantcliff.quantizers.experts import storable
from quantcliff.quantizers.links import Link, links
from quantcliff.quantizers.own_text import self_text, sizes_of
from quantcliff.quantizers.scheme import METHODS, SCALE_BITS, TRAINED, Scheme, average_bits
from quantcliff.quantizers.smoothing import norm_gain, row_gain, unsmoothed

__all__ = [
    "CALIBRATION_DOCUMENTS",
    "METHODS",
    "SCALE_BITS",
    "TRAINED",
    "Link",
    "Scheme",
    "average_bits",
    "calibration_text",
    "check",
    "check_calibration",
    "export",
    "links",
    "longest_input",
    "norm_gain",
    "quantize",
    "rounding",
    "row_gain",
    "self_text",
    "sizes_of",
    "storable",
    "token_batches",
    "unsmoothed",
]
