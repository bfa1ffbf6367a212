"""Stage 3: where is the answer lost, and what does it rest on? Activations exchanged across models, and silenced.

In: a study. Out: patching.parquet.
"""

from quantcliff.stages.patching import donors, necessity
from quantcliff.stages.patching.exchange import (
    COLUMNS,
    NO_PATCH,
    SCORES,
    WIDE,
    cut_in_two,
    interaction,
    log_odds,
    measure,
    measure_variant,
    recovery,
    summarise,
)

__all__ = ["COLUMNS", "NO_PATCH", "SCORES", "WIDE", "cut_in_two", "donors", "interaction", "log_odds", "measure",
           "measure_variant", "necessity", "recovery", "summarise"]  # fmt: skip
