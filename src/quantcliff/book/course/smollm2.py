"""The exercises on a real language model."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong


def in_pairs(first: np.ndarray, second: np.ndarray, z: float = 1.96) -> tuple[float, float, float]:
    """Mean difference of right answers (first less second) on the same prompts, and its 95% interval."""
    apart = first.astype(float) - second
    half = z * apart.std(ddof=1) / np.sqrt(len(apart))
    return float(apart.mean()), float(apart.mean() - half), float(apart.mean() + half)


def apart(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """As if the two had been asked different prompts."""
    middle = first.mean() - second.mean()
    half = 1.96 * np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / len(first))
    return float(middle), float(middle - half), float(middle + half)


def no_root(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    middle = float(first.mean() - second.mean())
    half = float(1.96 * (first.astype(float) - second).std(ddof=1))
    return middle, middle - half, middle + half


def answered() -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    shared = draw.random(500)
    return [(shared + draw.normal(0, 0.1, 500) > 0.25, shared > 0.3), (shared > 0.2, draw.random(500) > 0.4)]


def guessed(known: pd.DataFrame) -> float:
    """Share right of who always names the commonest answer of a fact's relation."""
    counts = known.groupby("relation")["answer"].agg(lambda column: column.value_counts().iloc[0])
    return float(counts.sum() / len(known))


def by_relation(known: pd.DataFrame) -> float:
    shares = known.groupby("relation")["answer"].agg(lambda column: column.value_counts(normalize=True).iloc[0])
    return float(shares.mean())


def one_answer(known: pd.DataFrame) -> float:
    return float(known["answer"].value_counts(normalize=True).iloc[0])


def again(
    weights: Tensor, to_grid: Callable[[Tensor, int], Tensor], sizes: tuple[int, ...] = (32, 64), start: bool = True
) -> list[float]:
    """Relative error of 4 bits in groups of each size, of weights that lie on a 4-bit grid in groups of 32 already."""
    old = _rounded(weights, to_grid, 32) if start else weights
    return [float((_rounded(old, to_grid, size) - old).norm() / old.norm()) for size in sizes]


def _rounded(weights: Tensor, to_grid: Callable[[Tensor, int], Tensor], size: int) -> Tensor:
    return torch.cat([to_grid(group, 4) for group in weights.split(size)])


def chained(layers: pd.DataFrame) -> list[float]:
    """Product over layers of the share that each leaves alone, at 4, 3 and 2 bits."""
    return [float(layers.loc[layers["bits"] == bits, "kept"].prod()) for bits in (4, 3, 2)]


def worst(layers: pd.DataFrame) -> list[float]:
    return [float(layers.loc[layers["bits"] == bits, "kept"].min()) for bits in (4, 3, 2)]


def summed(layers: pd.DataFrame) -> list[float]:
    return [float(1 - (1 - layers.loc[layers["bits"] == bits, "kept"]).sum()) for bits in (4, 3, 2)]


EXERCISES = {
    1: Choice(
        right="c",
        wrong={
            "a": "At 2 bits the grid is far coarser than the old one: measure how much that one matters.",
            "b": "The groups are others, and so are the scales: weights of the old grid do not lie on the new one.",
            "d": "All methods start from the same weights, so that they can still be held against each other.",
        },
    ),
    2: Function(
        right=in_pairs,
        cases=answered,
        wrong=[
            Wrong(apart, "That is the interval for two different sets of prompts; here each prompt was asked twice."),
            Wrong(no_root, "That is how much single prompts vary; the mean varies less, by the root of their number."),
            Wrong(lambda first, second: in_pairs(first, second, 1.645), "That is a 90% interval."),
            Wrong(lambda first, second: in_pairs(second, first), "The second is taken from the first."),
        ],
        rtol=5e-3,
    ),
    3: Number(
        right=guessed,
        wrong=[
            Wrong(by_relation, "Small relations count as much as large ones here: count facts, not relations."),
            Wrong(one_answer, "That is one answer for all; each relation has a commonest answer of its own."),
            Wrong(
                lambda known: 1 / known.groupby("relation")["answer"].nunique().mean(),
                "That is a guess at random among the answers; the best guess is the commonest.",
            ),
        ],
    ),
    4: Number(
        right=again,
        wrong=[
            Wrong(
                lambda weights, to_grid: again(weights, to_grid, start=False),
                "These are errors of the true weights; those on the old grid are quantized again.",
            ),
            Wrong(lambda weights, to_grid: again(weights, to_grid, (64, 32)), "Groups of 32 come first."),
        ],
        atol=1e-5,
    ),
    5: Number(
        right=chained,
        wrong=[
            Wrong(worst, "That is what the worst layer leaves; if layers fail independently, all have their share."),
            Wrong(summed, "Losses are added here; chances of surviving multiply."),
            Wrong(lambda layers: chained(layers)[::-1], "The order is 4, 3 and 2 bits."),
        ],
    ),
}
