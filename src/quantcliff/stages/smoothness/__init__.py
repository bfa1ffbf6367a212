"""Smoothness: how a quantized model's predictions move with its input, and what tokens are candidates around it.

In: a study. Out: smoothness.parquet.
"""

from quantcliff.stages.smoothness import beyond, edition, principle
from quantcliff.stages.smoothness.edition import FOLDER, SHOWN, sizes_of
from quantcliff.stages.smoothness.inputs import NEAR, RANDOM, STANDARD, Inputs, Sizes
from quantcliff.stages.smoothness.measures import MATCHED, PLAIN, Bench, measure
from quantcliff.stages.smoothness.outcomes import (
    PUBLISHED,
    Told,
    claims_of,
    every_claim,
    of_grid,
    of_measures,
    of_trials,
)
from quantcliff.stages.smoothness.rules import ERRORS, NAMED, RADIUS, SEQUENCES
from quantcliff.stages.smoothness.seen import ALL, INSIDE, RADII

__all__ = ["ALL", "ERRORS", "FOLDER", "INSIDE", "MATCHED", "NAMED", "NEAR", "PLAIN", "PUBLISHED", "RADII", "RADIUS",
           "RANDOM", "SEQUENCES", "SHOWN", "STANDARD", "Bench", "Inputs", "Sizes", "Told", "beyond", "claims_of",
           "edition", "every_claim", "measure", "of_grid", "of_measures", "of_trials", "principle",
           "sizes_of"]  # fmt: skip
