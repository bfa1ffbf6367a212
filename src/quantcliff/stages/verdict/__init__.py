"""What is wrong with a quantized model: signals of all stages -> one of five verdicts.

In: a study. Out: verdict.parquet.
"""

from quantcliff.stages.verdict.rule import (
    EXIT_CODES,
    MAJORITY,
    N_PROMPTS,
    NO_SIGNALS,
    Verdict,
    decide,
    first_layers,
    measure,
    verdicts,
)

__all__ = [
    "EXIT_CODES",
    "MAJORITY",
    "NO_SIGNALS",
    "N_PROMPTS",
    "Verdict",
    "decide",
    "first_layers",
    "measure",
    "verdicts",
]
