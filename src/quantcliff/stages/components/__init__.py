"""Stage 4: do the parts still work? Attention and FFN in situ and on clean input, and what each costs alone.

In: a study. Out: components.parquet.
"""

from quantcliff.stages.components.comparison import (
    COMPONENT,
    CONDITIONS,
    PERFECT,
    compare,
    measure,
    of_variant,
    partners,
    side_by_side,
    summary,
    table_of,
)
from quantcliff.stages.components.readings import POSITIONS, Reading, Recorded, read

__all__ = [
    "COMPONENT",
    "CONDITIONS",
    "PERFECT",
    "POSITIONS",
    "Reading",
    "Recorded",
    "compare",
    "measure",
    "of_variant",
    "partners",
    "read",
    "side_by_side",
    "summary",
    "table_of",
]
