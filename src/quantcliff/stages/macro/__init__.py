"""Stage 1: what is left of a model, seen from outside: answers, ranks, running text, and answers under paraphrase.

In: a study. Out: macro.parquet.
"""

from quantcliff.stages.macro import paraphrases
from quantcliff.stages.macro.answers import (
    BUCKETS,
    DOCUMENTS,
    GROUPS,
    TEXT_SEED,
    accuracy_table,
    document_losses,
    estimate,
    losses,
    majority_guess,
    measure,
    perplexity,
    running_text,
    summary,
)

__all__ = ["BUCKETS", "DOCUMENTS", "GROUPS", "TEXT_SEED", "accuracy_table", "document_losses", "estimate", "losses",
           "majority_guess", "measure", "paraphrases", "perplexity", "running_text", "summary"]  # fmt: skip
