"""Stage 6: can the damage be repaired without training? Protection, amplification, EoRA, domino.

In: a study. Out: repair.parquet.
"""

from quantcliff.stages.repair.amplify import ALPHAS
from quantcliff.stages.repair.bench import PROTECTED_BITS, PROTECTED_LAYERS, Bench
from quantcliff.stages.repair.budget import by_kurtosis, within_budget
from quantcliff.stages.repair.remedies import measure
from quantcliff.stages.repair.trials import Trial, difference, halves, share, summarise

__all__ = ["ALPHAS", "PROTECTED_BITS", "PROTECTED_LAYERS", "Bench", "Trial", "by_kurtosis", "difference", "halves",
           "measure", "share", "summarise", "within_budget"]  # fmt: skip
