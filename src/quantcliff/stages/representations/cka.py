"""Linear CKA from streamed moments: plain, debiased, and its level by chance."""

import numpy as np
from jaxtyping import Float64

from quantcliff.stages.representations.moments import Cross
from quantcliff.stages.representations.subspaces import RESOLUTION


def hsic(cross: Cross, debiased: bool = False) -> float:
    """||X^T Y||_F^2 with column means removed; NaN where x or y does not vary.

    Up to a factor that cancels in CKA this is HSIC with a linear kernel. Debiased: the U-statistic of Song et al.
    (2007), needs 4 rows, NaN with fewer.
    """
    lengths = cross.centred_squares()
    if lengths.x <= RESOLUTION * cross.square_x or lengths.y <= RESOLUTION * cross.square_y:
        return np.nan
    value = float((cross.second(centred=True) ** 2).sum())
    if not debiased:
        return value
    n = cross.n
    return value - n / (n - 2) * lengths.xy + lengths.x * lengths.y / ((n - 1) * (n - 2)) if n > 3 else np.nan


def cka(xx: Cross, yy: Cross, xy: Cross, debiased: bool = False) -> float:
    """Linear CKA (Kornblith et al. 2019, arXiv 1905.00414) of two activation matrices from their moments.

    Between 0 and 1, but with few rows for the width plain CKA of unrelated data is far above 0 (`cka_chance`); the
    debiased one is 0 on average there and may be negative. NaN where x or y does not vary, and where a debiased norm
    is not positive.
    """
    values = np.array([[hsic(cross, debiased)] for cross in (xy, xx, yy)])
    return float(cosine(*values)[0])


def cosine(
    xy: Float64[np.ndarray, "*shape"], xx: Float64[np.ndarray, "*shape"], yy: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """xy / sqrt(xx yy), NaN where xx or yy is not positive."""
    positive = (xx > 0) & (yy > 0)
    return xy / np.sqrt(np.where(positive, xx * yy, np.nan))


def cka_chance(participation_x: float, participation_y: float, n: int) -> float:
    """Mean of plain CKA over all shuffles of the rows of y, exactly: tr(K) tr(L) / ((n - 1) ||K|| ||L||).

    K and L are the centred Gram matrices; tr(K)/||K|| is the root of the `participation` of the centred moment of x.
    So chance is the geometric mean of how many directions the two fill, over n - 1. Debiased CKA has chance 0.
    """
    return float(np.sqrt(participation_x * participation_y) / (n - 1))
