"""How often the verdict is right: the shipped table of `benchmarks/verdicts.py`, and what is counted in it.

In: nothing. Out: confusion of labels and verdicts, the smallest fault found, false alarms, agreement.
"""

from quantcliff.diagnosis.bench.counts import (
    LABELS,
    RULES,
    TRUTHS,
    against,
    agreement,
    alarms,
    confusion,
    disagreeing,
    found,
    right,
)
from quantcliff.diagnosis.bench.shipped import Shipped

__all__ = ["LABELS", "RULES", "TRUTHS", "Shipped", "against", "agreement", "alarms", "confusion", "disagreeing",
           "found", "right"]  # fmt: skip
