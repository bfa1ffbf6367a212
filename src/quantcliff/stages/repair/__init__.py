"""Stage 6: can the damage be repaired without training? Protection, amplification, EoRA, domino."""

from quantcliff.stages.repair.amplify import ALPHAS
from quantcliff.stages.repair.bench import PROTECTED_BITS, RANDOM_DRAWS, Bench, by_kurtosis, measure, within_budget
from quantcliff.stages.repair.trials import Trial, difference, halves, share, summarise

__all__ = [
    "ALPHAS",
    "PROTECTED_BITS",
    "RANDOM_DRAWS",
    "Bench",
    "Trial",
    "by_kurtosis",
    "difference",
    "halves",
    "measure",
    "share",
    "summarise",
    "within_budget",
]
