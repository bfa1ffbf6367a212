"""Directions that hold the energy of a set of activations, and how two sets of directions meet.

Everything is read off second moments X^T X (d x d, float64): their eigenvectors are the right singular vectors of X,
their trace is its energy ||X||_F^2.
"""

import numpy as np
from jaxtyping import Float64
from scipy import linalg
from scipy.stats import beta

RESOLUTION = 1e-12
"""A moment below this share of the sums it is the difference of is rounding error, and counts as zero."""


def above(value: float, floor: float) -> float:
    """The value, NaN if it is not above `floor`."""
    return value if value > floor else np.nan


def directions(second: Float64[np.ndarray, "d d"], k: int, floor: float) -> Float64[np.ndarray, "d k"]:
    """Top-k eigenvectors of a second moment X^T X, largest first: the top-k right singular vectors of X.

    A column is NaN if its eigenvalue is not above `floor`: then X does not have that many directions. All are NaN where
    the moment is.
    """
    width = len(second)
    if np.isnan(second).any():
        return np.full((width, k), np.nan)
    values, vectors = linalg.eigh(second, subset_by_index=[width - k, width - 1], driver="evr")
    return np.where(values > floor, vectors, np.nan)[:, ::-1]


def overlap(u: Float64[np.ndarray, "d k"], v: Float64[np.ndarray, "d k"]) -> float:
    """||U^T V||_F^2 / k of two orthonormal bases: 1 for the same subspace, 0 for orthogonal ones, k/d by chance.

    The mean squared cosine of the principal angles between the two subspaces.
    """
    return float(((u.T @ v) ** 2).sum() / u.shape[1])


def share(
    u: Float64[np.ndarray, "d k"], second: Float64[np.ndarray, "d d"], floor: float = 0.0
) -> Float64[np.ndarray, " k"]:
    """Share of the energy tr(X^T X) in the span of the first 1, 2, ... k columns of u; NaN if it is not above `floor`.

    u is orthonormal.
    """
    return (u * (second @ u)).sum(0).cumsum() / above(np.trace(second), floor)


def random_share(k: int, width: int, participation: float) -> tuple[float, float, float]:
    """Mean and 95% range of the energy share that a random k-dimensional subspace holds, e.g. (0.06, 0.02, 0.12).

    The mean is k/d whatever the energy's shape. The variance over all subspaces is exact, 2k(d-k)/(d(d-1)(d+2)) times
    (1/participation - 1/d), where participation = tr(S)^2/||S||^2 is the number of directions the energy fills;
    the range is that of the Beta distribution with this mean and variance, exact when participation is 1.
    """
    mean = k / width
    if np.isnan(participation):
        return mean, np.nan, np.nan
    spread = max(1 / participation - 1 / width, 0.0)
    variance = 2 * k * (width - k) / (width * (width - 1) * (width + 2)) * spread
    if variance < 1e-15:
        return mean, mean, mean
    size = mean * (1 - mean) / variance - 1
    low, high = beta.ppf([0.025, 0.975], mean * size, (1 - mean) * size)
    return mean, float(low), float(high)


def participation(second: Float64[np.ndarray, "d d"], floor: float = 0.0) -> float:
    """tr(S)^2 / ||S||_F^2: how many directions the energy fills, 1 to the width; NaN if it is not above `floor`."""
    energy = np.trace(second)
    return float(energy**2 / (second**2).sum()) if energy > floor else np.nan
