"""The integer program finds the best allocation there is; the budget counts all that a file holds."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from quantcliff.errors import InputError
from quantcliff.models import config_of
from quantcliff.quantizers import Scheme, average_bits
from quantcliff.stages.mixture import units_of
from quantcliff.stages.mixture.allocation import allocate, check, costs, fill, shuffled, spent, spread_evenly, summed

DRAW = np.random.default_rng(3)
COST = np.outer(DRAW.uniform(0.1, 0.4, 6), [2.2, 3.3, 4.5])
DAMAGE = DRAW.exponential(1, (6, 3)) * [9, 2, 1]


def best(budget: float) -> float:
    """By trying all."""
    tried = (np.array(places) for places in itertools.product(range(3), repeat=6))
    return min(spent(places, DAMAGE) for places in tried if spent(places, COST) <= budget)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8, 1.0])
def test_no_allocation_under_the_budget_is_better(share: float) -> None:
    least, most = COST.min(1).sum(), COST.max(1).sum()
    budget = least + share * (most - least)
    found = allocate(DAMAGE, COST, budget)
    assert spent(found, COST) <= budget + 1e-9
    assert spent(found, DAMAGE) == pytest.approx(best(budget))


def test_damage_below_nothing_is_taken_as_it_is() -> None:
    damage = DAMAGE.copy()
    damage[2, 0] = -5.0
    assert allocate(damage, COST, COST.max(1).sum())[2] == 0


def test_a_budget_that_cannot_be_met_is_refused_in_one_sentence() -> None:
    least, most = COST.min(1).sum(), COST.max(1).sum()
    for budget in (least - 0.01, most + 0.01):
        with pytest.raises(InputError, match=rf"the least is {least:.2f} and the most {most:.2f}$"):
            allocate(DAMAGE, COST, budget)
    check(COST, least)
    check(COST, most)


def test_units_in_one_width_cost_what_a_checkpoint_does(tiny_llama: Path) -> None:
    config = config_of(tiny_llama)
    units = units_of(config)
    assert len(units) == 21 and units["1.v_proj"] == ["model.layers.1.self_attn.v_proj"]
    for size in (16, -1):
        found = costs(config, units, (2, 3, 4), size)
        whole = [average_bits(config, Scheme("rtn", bits, size)) for bits in (2, 3, 4)]
        assert found.sum(0) == pytest.approx(whole)
    mixed = Scheme("rtn", 2, 16, bits_by_module=((units["1.v_proj"][0], 4),))
    places = np.where(np.array(list(units)) == "1.v_proj", 2, 0)
    assert spent(places, costs(config, units, (2, 3, 4), 16)) == pytest.approx(average_bits(config, mixed))


def test_neither_unit_decides_the_sum() -> None:
    task, general = np.array([[3.0, 1.0], [4.0, -2.0]]), np.array([[0.1, 0.2], [0.3, 0.4]])
    found = summed(task, general, 0.7)
    assert found == pytest.approx(0.7 * task / 10 + 0.3 * general)
    assert found == pytest.approx(summed(1000 * task, general, 0.7))
    assert summed(task, general, 0.0) == pytest.approx(general)


def test_units_are_raised_in_order_while_it_fits() -> None:
    cost = np.array([[2.0, 3, 4], [4.0, 6, 8], [2.0, 3, 4], [2.0, 3, 4]]) / 10
    assert fill([1, 0, 2, 3], cost, 1.5).tolist() == [1, 1, 1, 1], "the widest that fits for all"
    assert fill([1, 0, 2, 3], cost, 1.75).tolist() == [1, 2, 1, 1]
    assert fill([0, 1, 2, 3], cost, 1.65).tolist() == [2, 1, 1, 1]
    assert fill([1, 2, 0, 3], cost, 1.65).tolist() == [1, 1, 2, 1], "one that does not fit is passed over"
    assert fill([3, 2, 1, 0], cost, 2.0).tolist() == [2, 2, 2, 2]


def test_every_beginning_is_spread() -> None:
    order = spread_evenly(56)
    assert sorted(order) == list(range(56))
    for n in (7, 14, 28):
        gaps = np.diff([-1, *sorted(order[:n]), 56])
        assert gaps.max() < 2 * 56 / n, "an even spread has no gap of twice the mean"


def test_shuffled_widths_cost_the_same() -> None:
    cost = np.array([[2.0, 3, 4], [2.0, 3, 4], [2.0, 3, 4], [4.0, 6, 8], [4.0, 6, 8]])
    chosen = np.array([0, 1, 2, 0, 2])
    drawn = [shuffled(chosen, cost, np.random.default_rng(seed)) for seed in range(20)]
    assert {spent(one, cost) for one in drawn} == {spent(chosen, cost)}
    assert all(sorted(one[:3]) == [0, 1, 2] and sorted(one[3:]) == [0, 2] for one in drawn)
    assert len({tuple(one) for one in drawn}) > 5
