"""Intervals, held to independent computations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from quantcliff import stats


@given(st.integers(1, 500), st.data())
def test_wilson_equals_its_formula(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    z, p = 1.959963984540054, successes / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert stats.wilson(successes, n) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_wilson_of_nothing_is_not_a_number() -> None:
    assert np.isnan(stats.wilson(0, 0)).all()
    assert np.isnan(stats.share([])).all()


def test_wilson_narrows_with_a_lower_level() -> None:
    wide, narrow = stats.wilson(30, 100), stats.wilson(30, 100, level=0.5)
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]


def test_share_counts_true_values() -> None:
    found = stats.share([True, False, True, True])
    assert found == (0.75, *stats.wilson(3, 4))


@given(st.integers(6, 200), st.integers(0, 2**32 - 1))
def test_median_lies_between_order_statistics_that_a_fair_coin_sets(n: int, seed: int) -> None:
    """As many values below the median as heads of n coins: the bounds leave at most 2.5% on either side."""
    values = np.random.default_rng(seed).exponential(size=n)
    found, ordered = stats.median(values), np.sort(values)
    below = int(np.searchsorted(ordered, found.low))
    assert found.estimate == np.median(values)
    assert binom.cdf(below, n, 0.5) <= 0.025 < binom.cdf(below + 1, n, 0.5)
    assert found.high == ordered[n - 1 - below]


def test_median_column_by_column_and_of_too_few() -> None:
    values = np.random.default_rng(5).integers(1, 50, (40, 3))
    found = stats.median(values)
    assert [found.low[1], found.estimate[1], found.high[1]] == list(np.take(stats.median(values[:, 1]), [1, 0, 2]))
    few = stats.median([3, 1, 2])
    assert few.estimate == 2 and np.isnan(few.low) and np.isnan(few.high)
    assert np.isnan(stats.median([])).all()


def test_bootstrap_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = stats.bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.04)


def test_bootstrap_works_column_by_column() -> None:
    values = np.random.default_rng(1).normal([[0, 10], [5, 20]], 1, (200, 2, 2))
    found = stats.bootstrap_mean(values, seed=3)
    assert np.shape(found.low) == (2, 2)
    assert np.all(np.asarray(found.low) < values.mean(0)) and np.all(values.mean(0) < np.asarray(found.high))
    assert found.estimate == pytest.approx(values.mean(0))


def test_bootstrap_repeats_with_its_seed_and_batches_change_nothing() -> None:
    values = np.random.default_rng(2).exponential(size=50)
    assert stats.bootstrap_mean(values, seed=1) == stats.bootstrap_mean(values, seed=1)
    assert stats.bootstrap_mean(values, seed=1) != stats.bootstrap_mean(values, seed=2)


def test_a_constant_has_no_width_and_one_value_no_bounds() -> None:
    assert stats.bootstrap_mean(np.full(20, 0.5)) == (0.5, 0.5, 0.5)
    alone = stats.bootstrap_mean([2.0])
    assert alone.estimate == 2 and np.isnan(alone.low) and np.isnan(alone.high)


def test_two_values_have_bounds() -> None:
    assert stats.bootstrap_mean([1.0, 3.0]) == (2, 1, 3)


def test_bootstrap_bounds_are_values_that_the_statistic_takes_and_narrow_with_a_lower_level() -> None:
    values = np.random.default_rng(5).exponential(size=60)
    wide, narrow = (stats.bootstrap(values, statistic=np.max, level=level) for level in (0.95, 0.5))
    assert {wide.low, wide.high, narrow.low, narrow.high} <= set(values)
    assert wide.low < narrow.low <= narrow.high == values.max()


def test_paired_difference_uses_the_pairing() -> None:
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 10, 100)
    found = stats.paired_difference(shared + 1 + rng.normal(0, 0.1, 100), shared)
    assert found.estimate == pytest.approx(1, abs=0.05)
    assert 0.9 < found.low < found.high < 1.1, "unpaired, the interval would be about 5 wide"


def test_paired_difference_has_a_sign() -> None:
    assert stats.paired_difference([3.0, 4.0, 5.0], [1.0, 1.0, 1.0]).estimate == 3


def test_pairs_need_one_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        stats.paired_difference([1, 2], [1, 2, 3])


def test_bootstrap_of_a_ratio_resamples_numerator_and_denominator_together() -> None:
    denominator = np.random.default_rng(4).uniform(1, 100, 80)

    def ratio(top: np.ndarray, bottom: np.ndarray, axis: int) -> np.ndarray:
        return top.mean(axis) / bottom.mean(axis)

    found = stats.bootstrap(2 * denominator, denominator, statistic=ratio)
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2, 2))
