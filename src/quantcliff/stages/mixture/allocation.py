"""Which unit gets how many bits: an integer program under a budget in which scales and zero points are counted.

One width for each unit, least summed damage, no more bits than the budget (arXiv 2607.00908 solves it by dynamic
programming; here scipy's HiGHS does, exactly). `fill` makes the plain allocations it is held against. A module has one
width: compressed-tensors stores no width for each group, so the paper's allocation inside a layer is left out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from transformers import PretrainedConfig

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.quantizers.scheme import stored_bits
from quantcliff.stages.mixture.rules import BETA

Widths = dict[str, int]
"""Bits by unit."""


def costs(
    config: PretrainedConfig, units: Mapping[str, Sequence[str]], options: Sequence[int], group_size: int
) -> Float[np.ndarray, "unit option"]:
    """Bits per weight of the whole decoder that a unit takes in each width, scales and zero points counted: those of
    all units in one width add up to `quantizers.average_bits`."""
    shapes = models.linears(config)
    whole = sum(rows * columns for rows, columns in shapes.values())
    return np.array([
        [sum(stored_bits(shapes[name], bits, group_size) for name in names) / whole for bits in options]
        for names in units.values()
    ])  # fmt: skip


def summed(
    task: Float[np.ndarray, "unit option"], general: Float[np.ndarray, "unit option"], beta: float = BETA
) -> Float[np.ndarray, "unit option"]:
    """beta task + (1 - beta) general, each divided by its own sum (of absolute values) over units and widths, so that
    neither unit (nats an answer, nats a token) decides. The paper's normalisation is not public."""
    return beta * task / np.abs(task).sum() + (1 - beta) * general / np.abs(general).sum()


def allocate(
    damage: Float[np.ndarray, "unit option"], cost: Float[np.ndarray, "unit option"], budget: float
) -> Int[np.ndarray, " unit"]:
    """Place of each unit's width among the options: least damage for at most `budget` bits per weight.

    Raises:
        InputError: no allocation is that cheap, or all are cheaper by more than rounding.
    """
    check(cost, budget)
    n, m = damage.shape
    each = csr_array((np.ones(n * m), (np.repeat(np.arange(n), m), np.arange(n * m))), shape=(n, n * m))
    found = milp(
        damage.ravel(), integrality=np.ones(n * m), bounds=Bounds(0, 1),
        constraints=[LinearConstraint(each, 1, 1), LinearConstraint(cost.ravel()[None], ub=budget)],
    )  # fmt: skip
    assert found.x is not None, found.message
    return found.x.reshape(n, m).argmax(1)


def check(cost: Float[np.ndarray, "unit option"], budget: float) -> None:
    """Raises InputError where a budget lies below or above all allocations."""
    least, most = cost.min(1).sum(), cost.max(1).sum()
    if not least <= budget <= most:
        raise InputError(
            f"{budget:g} bits per weight cannot be met: scales and zero points counted, the least is {least:.2f} and "
            f"the most {most:.2f}"
        )


def fill(order: Sequence[int], cost: Float[np.ndarray, "unit option"], budget: float) -> Int[np.ndarray, " unit"]:
    """All units in the widest option that fits, then each raised to the next in this order, where it still fits.

    Args:
        order: numbers of units.
    """
    check(cost, budget)
    start = max(option for option in range(cost.shape[1]) if cost[:, option].sum() <= budget)
    chosen, spent = np.full(len(cost), start), cost[:, start].sum()
    for unit in order if start + 1 < cost.shape[1] else ():
        more = cost[unit, start + 1] - cost[unit, start]
        if spent + more <= budget:
            chosen[unit], spent = start + 1, spent + more
    return chosen


def spread_evenly(n: int) -> list[int]:
    """The numbers below n in an order of which every beginning lies spread over all of them (multiples of the golden
    ratio)."""
    return np.argsort(np.arange(n) * (np.sqrt(5) - 1) / 2 % 1, kind="stable").tolist()


def shuffled(
    chosen: Int[np.ndarray, " unit"], cost: Float[np.ndarray, "unit option"], draw: np.random.Generator
) -> Int[np.ndarray, " unit"]:
    """The same widths on other units: exchanged among units of one size, so that no bit is added."""
    found = chosen.copy()
    for size in np.unique(cost[:, 0]):
        here = np.flatnonzero(cost[:, 0] == size)
        found[here] = chosen[draw.permutation(here)]
    return found


def spent(chosen: Int[np.ndarray, " unit"], table: Float[np.ndarray, "unit option"]) -> float:
    """What an allocation adds up to in a table: its bits per weight, or its damage."""
    return float(table[np.arange(len(chosen)), chosen].sum())
