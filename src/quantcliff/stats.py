"""95% intervals: Wilson for shares, order statistics for medians, bootstrap for everything else."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import quantile_test
from statsmodels.stats.proportion import proportion_confint


class Interval(NamedTuple):
    """An estimate between its lower and upper bound; all three numbers, or all three arrays of one shape."""

    estimate: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray


def stacked(intervals: Sequence[Interval]) -> Interval:
    """Several intervals of single numbers as one of arrays (n,), in their order."""
    return Interval(*map(np.array, zip(*intervals, strict=True)))


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of the share `successes / n`; (nan, nan) where n is 0.

    >>> low, high = wilson(0, 10)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.278)
    """
    if n == 0:
        return float("nan"), float("nan")
    low, high = proportion_confint(int(successes), int(n), alpha=1 - level, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def share(flags: ArrayLike) -> Interval:
    """Share of true values in `flags` (n,) with its Wilson interval; all nan where n is 0."""
    values = np.asarray(flags, dtype=bool)
    if len(values) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    return Interval(float(values.mean()), *wilson(int(values.sum()), len(values)))


def median(values: ArrayLike) -> Interval:
    """Median over the first axis of `values` (n, ...), with bounds that are values themselves: those order statistics
    between which the median lies in 95% of samples at least, whatever the distribution (scipy's `quantile_test`).

    Bounds are nan where n is too small for any to be that sure (below 6).

    >>> median(range(1, 101))
    Interval(estimate=50.5, low=40.0, high=61.0)
    """
    columns = np.asarray(values, dtype=float)
    if columns.ndim > 1:
        shape, flat = columns.shape[1:], columns.reshape(len(columns), -1)
        return Interval(*(np.reshape(part, shape) for part in zip(*map(median, flat.T), strict=True)))
    if len(columns) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    found = quantile_test(columns, p=0.5).confidence_interval(0.95)
    return Interval(float(np.median(columns)), float(found.low), float(found.high))


def bootstrap(
    *samples: ArrayLike,
    statistic: Callable[..., np.ndarray],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap over the first axis of one or more samples that belong together row by row.

    Args:
        samples: arrays of shape (n, ...), one row per prompt; the same rows are drawn from each (paired).
        statistic: called as `statistic(*samples, axis=k)`, reduces axis k, e.g. `np.mean`.

    Returns:
        The statistic on all rows and its bounds, of shape (...); bounds are nan where n < 2.
    """
    arrays = [np.asarray(sample, dtype=float) for sample in samples]
    estimate = np.asarray(statistic(*arrays, axis=0), dtype=float)
    if len(arrays[0]) < 2:
        return _interval(estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan))
    batch = max(1, 4_000_000 // max(array.size for array in arrays))
    found = scipy_bootstrap(
        arrays, statistic, paired=len(arrays) > 1, axis=0, n_resamples=resamples, batch=min(batch, resamples),
        vectorized=True, confidence_level=level, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return _interval(estimate, found.low, found.high)


def _interval(estimate: ArrayLike, low: ArrayLike, high: ArrayLike) -> Interval:
    if np.ndim(estimate) == 0:
        return Interval(float(np.asarray(estimate)), float(np.asarray(low)), float(np.asarray(high)))
    return Interval(np.asarray(estimate), np.asarray(low), np.asarray(high))


def bootstrap_mean(values: ArrayLike, seed: int = 0) -> Interval:
    """Mean over the first axis of `values` (n, ...) with its bootstrap interval, of shape (...)."""
    return bootstrap(values, statistic=np.mean, seed=seed)


def paired_difference(a: ArrayLike, b: ArrayLike, seed: int = 0) -> Interval:
    """Mean of `a - b`, both of shape (n, ...) and paired by row, with its bootstrap interval.

    Raises:
        ValueError: the shapes differ, so the rows cannot be pairs.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"paired samples need one shape, not {first.shape} and {second.shape}")
    return bootstrap_mean(first - second, seed)


def stratified(failure: Bool[np.ndarray, " prompt"], n: int, seed: int) -> Int[np.ndarray, " chosen"]:
    """Up to `n` prompt numbers, in order: half from the failures, half from the rest; where one runs out, the other."""
    draw = np.random.default_rng(seed)
    lost, kept = (draw.permutation(np.flatnonzero(flags)) for flags in (failure, ~failure))
    n_lost = min(len(lost), max(n // 2, n - len(kept)))
    return np.sort(np.concatenate([lost[:n_lost], kept[: n - n_lost]]))
