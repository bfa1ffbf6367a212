"""The exercises on the mixture."""

from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong


def likeness(task: np.ndarray, general: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """Cosine of each mixture's traces with the task's."""
    return _cosines([alpha * general + (1 - alpha) * task for alpha in alphas], task)


def _cosines(mixed: list[np.ndarray], target: np.ndarray) -> np.ndarray:
    return np.array([h @ target / (np.linalg.norm(h) * np.linalg.norm(target)) for h in mixed])


def traces() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [(draw.gamma(1, 1, 20), draw.gamma(1, 3, 20), np.linspace(0, 1, 5)) for _ in range(2)]


def ceiling(first: np.ndarray, second: np.ndarray, arithmetic: bool = False) -> tuple[float, float]:
    """tau of two signals (blocks, units), a half each, and the ceiling that their reliabilities set."""
    (a, b), (c, d) = _halves(first), _halves(second)
    own = _tau(a, b), _tau(c, d)
    cross = np.mean([_tau(one, other) for one in (a, b) for other in (c, d)])
    return float(cross), float(np.mean(own) if arithmetic else np.sqrt(max(own[0], 0) * max(own[1], 0)))


def _halves(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = len(signal) // 2
    return signal[:half].mean(0), signal[half:].mean(0)


def _tau(first: np.ndarray, second: np.ndarray) -> float:
    return float(kendalltau(first, second).statistic)


def whole(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    return _tau(first.mean(0), second.mean(0)), ceiling(first, second)[1]


def by_units(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Halves of the units in place of the blocks."""
    return ceiling(first.T, second.T)


def signals() -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(1)
    damage = draw.gamma(1, 1, 16)
    noises = [draw.normal(0, noise, (2, 16, 16)) for noise in (1, 2)]
    return [(damage + first, damage**2 + 2 * second) for first, second in noises]


def stored(bits: int, size: int, zero: bool = True) -> float:
    """Bits a weight with scale (16 bits) and zero point of its group."""
    return bits + (16 + bits * zero) / size


def cheapest(damage: np.ndarray, cost: np.ndarray, budget: float) -> list[int]:
    """Option of each unit, (units, options): least damage of all that costs no more than the budget."""
    units = np.arange(len(damage))
    ways = (list(way) for way in product(range(damage.shape[1]), repeat=len(damage)))
    return min((way for way in ways if cost[units, way].sum() <= budget), key=lambda way: damage[units, way].sum())


def greedy(damage: np.ndarray, cost: np.ndarray, budget: float) -> list[int]:
    """Units in the order of their largest damage, each in the best option that is left to it."""
    found, left = [0] * len(damage), budget - cost[:, 0].sum()
    for unit in np.argsort(-damage[:, 0]):
        fits = [option for option in range(damage.shape[1]) if cost[unit, option] - cost[unit, 0] <= left]
        found[unit] = fits[-1]
        left -= cost[unit, fits[-1]] - cost[unit, 0]
    return found


def evenly(damage: np.ndarray, cost: np.ndarray, budget: float) -> list[int]:
    options = [option for option in range(damage.shape[1]) if cost[:, option].sum() <= budget]
    return [options[-1]] * len(damage)


def budgets() -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Problems whose best, greedy and even answers all differ; larger options cost more and do less damage."""
    found: list[tuple[np.ndarray, np.ndarray, float]] = []
    draw = np.random.default_rng(0)
    while len(found) < 3:
        damage = np.sort(draw.gamma(1, 1, (5, 3)), axis=1)[:, ::-1].copy()
        cost = draw.integers(1, 5, (5, 1)) * np.array([[2.0, 3.0, 4.0]])
        case = damage, cost, float(cost[:, 1].sum() + 2)
        if len({tuple(map(int, way(*case))) for way in (cheapest, greedy, evenly)}) == 3:
            found.append(case)
    return found


def ratios(arms: pd.DataFrame, budget: bool = True) -> list[float]:
    """Damage measured over damage foretold of the allocations by both losses, by budget from least to most."""
    rows = arms[arms["arm"] == "both"].sort_values("budget")
    return (rows["chosen_facts"] / rows["predicted_facts"]).tolist()


EXERCISES = {
    1: Choice(
        right="c",
        wrong={
            "a": "Two noisy measures of one thing have a small tau as well: how well does each agree with itself?",
            "b": "That one tau is near 0 says nothing of which of the two rankings is the better one.",
            "d": "A small sample makes tau uncertain; but noise in the measures also makes it *small*.",
        },
    ),
    2: Function(
        right=likeness,
        cases=traces,
        wrong=[
            Wrong(
                lambda task, general, alphas: likeness(general, task, alphas),
                "The two texts are swapped: alpha is the share of the general one, and the target is the task.",
            ),
            Wrong(
                lambda task, general, alphas: _cosines(
                    [a * general / general.sum() + (1 - a) * task / task.sum() for a in alphas], task
                ),
                "Traces are mixed as they are, not brought to one size first.",
            ),
            Wrong(
                lambda task, general, alphas: np.array([(a * general + (1 - a) * task) @ task for a in alphas]),
                "That is the inner product; a cosine is divided by both lengths.",
            ),
        ],
    ),
    3: Function(
        right=ceiling,
        cases=signals,
        wrong=[
            Wrong(
                lambda first, second: ceiling(first, second, arithmetic=True),
                "The ceiling is the geometric mean of both reliabilities.",
            ),
            Wrong(whole, "The first number is of all blocks; beside a ceiling of halves it must be one of halves."),
            Wrong(by_units, "The units are split; split the blocks (rows), and keep all units."),
        ],
    ),
    4: Function(
        right=stored,
        cases=lambda: [(4, 128), (3, 64), (2, 32)],
        wrong=[
            Wrong(lambda bits, size: float(bits), "Scale and zero point of each group are stored as well."),
            Wrong(
                lambda bits, size: stored(bits, size, zero=False),
                "The zero point is missing, an integer of as many bits.",
            ),
            Wrong(lambda bits, size: bits + 16.0 + bits, "One scale serves the whole group: divide by its size."),
        ],
    ),
    5: Function(
        right=cheapest,
        cases=budgets,
        wrong=[
            Wrong(
                greedy,
                "Serving the most sensitive units first spends the budget before others are asked: try all ways.",
            ),
            Wrong(evenly, "All units have the same option; each may have its own."),
            Wrong(
                lambda damage, cost, budget: damage.argmin(1).tolist(),
                "Each unit has its best option, and the budget is overrun.",
            ),
        ],
    ),
    6: Number(
        right=ratios,
        wrong=[
            Wrong(lambda arms: [1 / ratio for ratio in ratios(arms)], "That is foretold over measured."),
            Wrong(lambda arms: ratios(arms)[::-1], "The smallest budget comes first."),
        ],
    ),
}
