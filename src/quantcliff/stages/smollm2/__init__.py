"""The same questions put to a real language model: its tables, beside those of the embedded model and the paper."""

from quantcliff.stages.smollm2.figures import DOMINO, OWN, agreement, beside, figures, paper
from quantcliff.stages.smollm2.shipped import STAGES, Shipped, recheck, ship

__all__ = ["DOMINO", "OWN", "STAGES", "Shipped", "agreement", "beside", "figures", "paper", "recheck", "ship"]
