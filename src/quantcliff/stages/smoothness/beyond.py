"""Is it more than error? Partial rank correlations over quantized models."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from quantcliff.stats import Interval

RESAMPLES = 1000
LEVEL = 0.99
"""Five numbers are tried, so that the intervals are wide."""

SINGULAR, NOTHING = 1e-12, 1e-6
"""Shares of the largest eigenvalue, and of a length, below which there is nothing but rounding."""

Values = Float[np.ndarray, " cell"]


def partial(x: Values, y: Values, given: Float[np.ndarray, "cell given"]) -> float:
    """Spearman's partial correlation: of what ranks of x and of y have left when lines on ranks of `given` are taken
    off both. Plain Spearman where nothing is given; NaN where nothing is left."""
    return float(partials(np.column_stack([x, y, given]), np.ones((1, len(x))))[0])


def partials(
    columns: Float[np.ndarray, "cell column"], counts: Float[np.ndarray, "draw cell"]
) -> Float[np.ndarray, " draw"]:
    """`partial` of the first two columns given the others, in samples that hold each cell so many times."""
    ranks, weights = ranked(columns, counts), counts[..., None]
    ranks -= (weights * ranks).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
    ranks *= np.sqrt(weights)
    target, design = ranks[..., :2], ranks[..., 2:]
    left, turned = target, design.swapaxes(1, 2)
    if design.size:
        left = target - design @ (np.linalg.pinv(turned @ design, SINGULAR, hermitian=True) @ (turned @ target))
    size, whole = (np.sqrt((part**2).sum(1)) for part in (left, target))
    gone = (size < NOTHING * np.maximum(whole, 1)).any(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gone, np.nan, left.prod(2).sum(1) / size.prod(1))


def ranked(
    columns: Float[np.ndarray, "cell column"], counts: Float[np.ndarray, "draw cell"]
) -> Float[np.ndarray, "draw cell column"]:
    """Ranks of the cells within each sample, less a half; equal values share the mean of theirs."""
    other, own = columns[None], columns[:, None]
    below = (other < own) + 0.5 * (other == own)
    return np.einsum("ds,csk->dck", counts, below, optimize=True)


def blocks(grid: pd.DataFrame) -> Int[np.ndarray, " cell"]:
    """A number for each cell: those of one width and group size have the same. They differ in method, text and damping
    and resemble one another."""
    return grid.groupby(["bits", "group_size"], sort=False).ngroup().to_numpy()


def between(
    grid: pd.DataFrame, number: str, given: list[str], level: float = LEVEL, seed: int = 0, target: str = "kept"
) -> Interval:
    """`partial` of a number with answers kept, and its bootstrap interval over `blocks` of cells."""
    block = blocks(grid)
    n = block.max() + 1
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    counts = np.stack([np.bincount(sample, minlength=n) for sample in drawn])[:, block].astype(float)
    columns = grid[[number, target, *given]].to_numpy(float)
    low, high = np.nanquantile(partials(columns, counts), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(partials(columns, np.ones((1, len(grid))))[0]), float(low), float(high))


def table(grid: pd.DataFrame, numbers: tuple[str, ...], errors: tuple[str, ...], seed: int = 0) -> pd.DataFrame:
    """For each number: `between` with nothing given, given `text_kl`, and given all plain errors.

    Returns:
        number, kind ("smoothness" or "error"), given ("nothing", "divergence", "all errors"), estimate, low, high.
    """
    rows = []
    for number in (*numbers, *errors):
        rest = ["text_kl", *(name for name in errors if name != number)]
        for words, given in {"nothing": [], "divergence": ["text_kl"], "all errors": rest}.items():
            found = between(grid, number, given, seed=seed)
            kind = "error" if number in errors else "smoothness"
            rows.append({"number": number, "kind": kind, "given": words, **found._asdict()})
    return pd.DataFrame(rows)
