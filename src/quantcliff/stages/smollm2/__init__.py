"""The same questions put to a real language model: its tables, beside those of the embedded model and the paper.

In: tables of two models. Out: one table beside the paper.
"""

from quantcliff.stages.smollm2.calibration import TEXTS, compare
from quantcliff.stages.smollm2.figures import DOMINO, OWN, agreement, beside, figures, paper
from quantcliff.stages.smollm2.shipped import FOLDER, STAGES, Shipped, recheck, ship, ship_again

__all__ = ["DOMINO", "FOLDER", "OWN", "STAGES", "TEXTS", "Shipped", "agreement", "beside", "compare", "figures",
           "paper", "recheck", "ship", "ship_again"]  # fmt: skip
