"""Healing: what training on the grid brings back, with controls, and what kind of model it leaves.

In: a study. Out: healing.parquet, and the verdicts on healed models.
"""

from quantcliff.stages.healing import further, named, smollm2
from quantcliff.stages.healing.beside import ATTENTION, beside, equal
from quantcliff.stages.healing.edition import CURVE, EQUAL, FOLDER, LIKE, ROUNDED, SHOWN, add, make, row, signals
from quantcliff.stages.healing.gains import gains
from quantcliff.stages.healing.text import TOKENS, documents, healing_half, heals
from quantcliff.stages.healing.trials import AS_IT_IS, Arm, arms, checkpoint, measure

__all__ = ["AS_IT_IS", "ATTENTION", "CURVE", "EQUAL", "FOLDER", "LIKE", "ROUNDED", "SHOWN", "TOKENS", "Arm", "add",
           "arms", "beside", "checkpoint", "documents", "equal", "further", "gains", "healing_half", "heals", "make",
           "measure", "named", "row", "signals", "smollm2"]  # fmt: skip
