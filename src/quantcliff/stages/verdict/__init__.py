"""What is wrong with a quantized model: questions of cause -> one of five verdicts, signals of all stages beside it.

In: a study. Out: verdict.parquet.
"""

from quantcliff.stages.verdict import blame
from quantcliff.stages.verdict.pair import Pair
from quantcliff.stages.verdict.questions import QUESTIONS
from quantcliff.stages.verdict.rule import (
    EXIT_CODES,
    N_PROMPTS,
    NO_SIGNALS,
    QUESTION,
    SIGNAL,
    STEP,
    Verdict,
    decide,
    first_layers,
    joined,
    measure,
    verdicts,
)

__all__ = [
    "EXIT_CODES",
    "NO_SIGNALS",
    "N_PROMPTS",
    "QUESTION",
    "QUESTIONS",
    "SIGNAL",
    "STEP",
    "Pair",
    "Verdict",
    "blame",
    "decide",
    "first_layers",
    "joined",
    "measure",
    "verdicts",
]
