"""Stage 5: is what the network holds in its residual stream still the same? CKA, subspaces, alignment of the error.

In: a study. Out: representations.parquet.
"""

from quantcliff.stages.representations.alignment import SHARE_OF_WIDTH, aligned, chance_of, default_k
from quantcliff.stages.representations.comparison import (
    aligned_table,
    cka_table,
    compare,
    measure,
    rows_of,
    streams,
)

__all__ = ["SHARE_OF_WIDTH", "aligned", "aligned_table", "chance_of", "cka_table", "compare", "default_k", "measure",
           "rows_of", "streams"]  # fmt: skip
