"""Do two signals put the units in the same order, and how well could they, given their noise?

Two noisy rankings disagree even where they measure one thing. So each signal is measured on two halves of its facts (or
texts), and the Kendall tau of two signals, one half each, is held against the geometric mean of both signals' tau with
themselves, half to half. Halves of equal size on both sides: nothing has to be corrected.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import kendalltau

from quantcliff.stages.mixture.rules import CEILING, NEAR, SPLITS, SURE
from quantcliff.stats import Interval

Signal = Float[np.ndarray, "block unit"]
"""Increase of a loss by block of facts (or texts) and unit."""

HOLDS, WEAKER, FAILS, UNKNOWN = "holds", "a weaker form holds", "holds not", "cannot be told here"
RESAMPLES = 1000


def signal(table: pd.DataFrame, name: str, bits: int, way: str) -> Signal:
    """One signal out of `sensitivity.measure`'s table, units in their order there."""
    rows = table[(table["bits"] == bits) & (table["way"] == way) & (table["block"] >= 0) & (table["unit"] != "")]
    wide = rows.pivot(index="block", columns="unit", values=name)
    return wide[list(dict.fromkeys(rows["unit"]))].to_numpy(dtype=float)


def tau(first: Float[np.ndarray, " unit"], second: Float[np.ndarray, " unit"]) -> float:
    """Kendall's tau-b."""
    return float(kendalltau(first, second).statistic)


def agreement(first: Signal, second: Signal, seed: int = 0) -> Interval:
    """tau of the means over blocks, with a bootstrap interval over the blocks of each signal."""
    return resampled(lambda one, other: tau(one.mean(0), other.mean(0)), first, second, seed)


def resampled(statistic: Callable[[Signal, Signal], float], first: Signal, second: Signal, seed: int = 0) -> Interval:
    """A statistic of two signals with its 95% bootstrap interval; blocks are drawn for each signal by itself, since
    facts and texts do not belong together."""
    draw, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        one, other = (part[draw.integers(len(part), size=len(part))] for part in (first, second))
        drawn.append(statistic(one, other))
    return Interval(statistic(first, second), *map(float, np.quantile(drawn, [0.025, 0.975])))


def halved(first: Signal, second: Signal, splits: int = SPLITS, seed: int = 0) -> pd.DataFrame:
    """A row per split of both signals' blocks in halves: first, second (tau of a signal's halves), cross (mean tau of
    the four pairs of a half each) and ceiling (geometric mean of first and second, 0 where one is not above 0)."""
    draw, rows = np.random.default_rng(seed), []
    for _ in range(splits):
        a, b = (_two(part, draw) for part in (first, second))
        own = tau(*a), tau(*b)
        cross = np.mean([tau(one, other) for one in a for other in b])
        rows.append((*own, cross, np.sqrt(max(own[0], 0) * max(own[1], 0))))
    return pd.DataFrame(rows, columns=["first", "second", "cross", "ceiling"])


def _two(part: Signal, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = draw.permutation(len(part))
    half = len(part) // 2
    return part[order[:half]].mean(0), part[order[half : 2 * half]].mean(0)


def illusion(found: Interval, splits: pd.DataFrame) -> str:
    """Whether the rankings disagree as the rule has it."""
    if splits["ceiling"].mean() < CEILING:
        return UNKNOWN
    if found.low <= 0 <= found.high:
        return HOLDS
    below = (splits["cross"] < NEAR * splits["ceiling"]).mean()
    return WEAKER if found.low > 0 and below >= SURE else FAILS


def edge_share(damage: Float[np.ndarray, " unit"], edge: np.ndarray) -> float:
    """Share of the positive damage that lies in the units of a mask."""
    positive = np.maximum(damage, 0)
    return float(positive[edge].sum() / positive.sum())
