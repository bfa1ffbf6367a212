"""Smoothness: how a quantized model's predictions move with its input, and what tokens are candidates around it.

In: a study. Out: smoothness.parquet.
"""

from quantcliff.stages.smoothness.inputs import NEAR, RANDOM, STANDARD, Inputs, Sizes
from quantcliff.stages.smoothness.measures import MATCHED, PLAIN, Bench, measure, row
from quantcliff.stages.smoothness.seen import ALL, INSIDE, RADII

__all__ = ["ALL", "INSIDE", "MATCHED", "NEAR", "PLAIN", "RADII", "RANDOM", "STANDARD", "Bench", "Inputs", "Sizes",
           "measure", "row"]  # fmt: skip
