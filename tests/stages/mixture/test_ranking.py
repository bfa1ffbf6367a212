"""Two rankings are held against how well each agrees with itself."""

import numpy as np
import pandas as pd
import pytest

from quantcliff.stages.mixture import ranking
from quantcliff.stages.mixture.ranking import FAILS, HOLDS, UNKNOWN, WEAKER
from quantcliff.stats import Interval


def blocks(true: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return true + noise * np.random.default_rng(seed).standard_normal((20, len(true)))


TRUE, OTHER = np.random.default_rng(0).permutation(np.arange(40.0)), np.random.default_rng(1).uniform(0, 40, 40)


def test_tau_counts_pairs() -> None:
    assert ranking.tau(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)


def test_one_thing_measured_twice_agrees_up_to_its_ceiling() -> None:
    first, second = blocks(TRUE, 20, 2), blocks(TRUE, 20, 3)
    splits = ranking.halved(first, second)
    assert 0.4 < splits["ceiling"].mean() < 0.8
    assert splits["cross"].mean() == pytest.approx(splits["ceiling"].mean(), abs=0.08)
    assert ranking.illusion(ranking.agreement(first, second), splits) == FAILS


def test_two_things_do_not() -> None:
    first, second = blocks(TRUE, 10, 2), blocks(OTHER, 10, 3)
    found, splits = ranking.agreement(first, second), ranking.halved(first, second)
    assert found.low <= found.estimate <= found.high
    assert found.estimate == ranking.tau(first.mean(0), second.mean(0))
    assert abs(splits["cross"].mean()) < 0.25 < 0.7 < splits["ceiling"].mean()
    half = blocks(TRUE + OTHER, 10, 4)
    assert ranking.illusion(ranking.agreement(first, half), ranking.halved(first, half)) == WEAKER


def test_rules_of_the_illusion() -> None:
    def splits(cross: float, ceiling: float) -> pd.DataFrame:
        return pd.DataFrame({"cross": [cross] * 100, "ceiling": [ceiling] * 100})

    assert ranking.illusion(Interval(0.0, -0.1, 0.1), splits(0.0, 0.49)) == UNKNOWN
    assert ranking.illusion(Interval(0.0, -0.1, 0.1), splits(0.0, 0.6)) == HOLDS
    assert ranking.illusion(Interval(0.3, 0.1, 0.4), splits(0.4, 0.6)) == WEAKER
    assert ranking.illusion(Interval(0.5, 0.4, 0.6), splits(0.5, 0.6)) == FAILS
    assert ranking.illusion(Interval(-0.5, -0.6, -0.4), splits(-0.5, 0.6)) == FAILS, "reversed is no independence"


def test_halves_have_no_block_in_common() -> None:
    part = np.eye(20)
    one, other = ranking._two(part, np.random.default_rng(0))
    assert (one > 0).sum() == (other > 0).sum() == 10 and not ((one > 0) & (other > 0)).any()


def test_a_signal_is_read_in_the_order_of_units() -> None:
    rows = [{"unit": unit, "block": block, "bits": bits, "way": way, "facts": place + 10 * block + bits}
            for way in ("alone", "all but it") for bits in (2, 3)
            for place, unit in enumerate(["b", "a", ""]) for block in (-1, 0, 1)]  # fmt: skip
    assert ranking.signal(pd.DataFrame(rows), "facts", 3, "alone").tolist() == [[3, 4], [13, 14]]


def test_shares_of_the_ends_count_damage_alone() -> None:
    assert ranking.edge_share(np.array([2.0, -1, 1, 1]), np.array([True, True, False, False])) == pytest.approx(0.5)
