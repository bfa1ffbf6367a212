"""Is it more than error? Partial rank correlations over quantized models."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import rankdata

from quantcliff.stats import Interval

RESAMPLES = 1000
LEVEL = 0.99
"""Five numbers are tried, so that the intervals are wide."""

Values = Float[np.ndarray, " cell"]


def partial(x: Values, y: Values, given: Float[np.ndarray, "cell given"]) -> float:
    """Spearman's partial correlation: of what ranks of x and of y have left when lines on ranks of `given` are taken
    off both. Plain Spearman where nothing is given; NaN where nothing is left."""
    ranks = rankdata(np.column_stack([x, y, given]), axis=0)
    ranks -= ranks.mean(0)
    target, design = ranks[:, :2], ranks[:, 2:]
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0] if design.size else target
    size = np.sqrt((left**2).sum(0))
    if (size < 1e-9 * np.maximum(np.sqrt((target**2).sum(0)), 1)).any():
        return float("nan")
    return float((left[:, 0] * left[:, 1]).sum() / size.prod())


def blocks(grid: pd.DataFrame) -> Int[np.ndarray, " cell"]:
    """A number for each cell: those of one width and group size have the same. They differ in method, text and damping
    and resemble one another."""
    return grid.groupby(["bits", "group_size"], sort=False).ngroup().to_numpy()


def between(
    grid: pd.DataFrame, number: str, given: list[str], level: float = LEVEL, seed: int = 0, target: str = "kept"
) -> Interval:
    """`partial` of a number with answers kept, and its bootstrap interval over `blocks` of cells."""
    members = list(pd.Series(range(len(grid))).groupby(blocks(grid)).indices.values())
    x, y = (grid[name].to_numpy(float) for name in (number, target))
    rest = grid[given].to_numpy(float)
    draw, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[block] for block in draw.integers(len(members), size=len(members))])
        found.append(partial(x[rows], y[rows], rest[rows]))
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(partial(x, y, rest), float(low), float(high))


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
