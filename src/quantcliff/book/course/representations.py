"""The exercises on representations."""

import numpy as np

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong

SHUFFLED, K = 60, 8
"""Rows that are paired wrongly, and directions that count as signal."""


def cka(x: np.ndarray, y: np.ndarray, centred: bool = True) -> float:
    """Linear CKA of activations (prompts, width) and (prompts, other width)."""
    if centred:
        x, y = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    return float(norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))


def unsquared(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(cka(x, y) * np.linalg.norm(_gram(x)) * np.linalg.norm(_gram(y))) / _sizes(x, y))


def _gram(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    return centred @ centred.T


def _sizes(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(_gram(x)) * np.linalg.norm(_gram(y)))


def clouds() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two clouds around means of their own that have something in common, of different widths."""
    draw = np.random.default_rng(0)
    x = draw.normal(2, 1, (40, 6))
    return [(x, x @ draw.normal(size=(6, 4)) + draw.normal(0, 2, (40, 4))), (x, draw.normal(-1, 1, (40, 6)))]


def by_chance(full: np.ndarray, quantized: np.ndarray, n: int = SHUFFLED) -> float:
    """Exact mean of CKA over all orders of the first n rows of one side."""
    k, l = (_gram(side[:n]) for side in (full, quantized))  # noqa: E741
    return float(np.trace(k) * np.trace(l) / ((n - 1) * np.linalg.norm(k) * np.linalg.norm(l)))


def subspace(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Overlap of the top-k right singular vectors of activations (prompts, width)."""
    return float((_cosines(x, y, k) ** 2).sum() / k)


def _cosines(x: np.ndarray, y: np.ndarray, k: int, part: slice | None = None) -> np.ndarray:
    u, v = (np.linalg.svd(side, full_matrices=False)[2] for side in (x, y))
    return u[part or slice(k)] @ v[part or slice(k)].T


def left(x: np.ndarray, y: np.ndarray, k: int) -> float:
    u, v = (np.linalg.svd(side, full_matrices=False)[0][:, :k] for side in (x, y))
    return float(((u.T @ v) ** 2).sum() / k)


def matrices() -> list[tuple[np.ndarray, np.ndarray, int]]:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(30, 10)) * np.linspace(3, 0.3, 10)
    return [(x, x + draw.normal(size=(30, 10)), k) for k in (2, 4)]


def shares(full: np.ndarray, *quantized: np.ndarray, centred: bool = True, k: int = K) -> list[float]:
    """Share of the error's energy in the signal's top-k directions, for several models; streams (prompts, width)."""
    u = np.linalg.svd(full - full.mean(0) * centred, full_matrices=False)[2][:k]
    errors = [other - full for other in quantized]
    errors = [error - error.mean(0) * centred for error in errors]
    return [float(((error @ u.T) ** 2).sum() / (error**2).sum()) for error in errors]


def of_streams(full: np.ndarray, *quantized: np.ndarray) -> list[float]:
    """The mistake of taking the quantized stream for the error."""
    return shares(full, *(full + other for other in quantized))


EXERCISES = {
    1: Choice(
        right="c",
        wrong={
            "a": "CKA divides by the size of both clouds, so a common factor drops out.",
            "b": "A subspace is made of directions, and a direction has no length.",
            "d": "Reading goes through a norm, but each layer also adds to the stream, which has shrunk beside it.",
        },
    ),
    2: Function(
        right=cka,
        cases=clouds,
        wrong=[
            Wrong(
                lambda x, y: cka(x, y, centred=False), "The column means are still in: what all prompts share counts."
            ),
            Wrong(lambda x, y: float(np.sqrt(cka(x, y))), "The norm above is squared, those below are not."),
            Wrong(unsquared, "The norm above is not squared, so the size of the activations does not drop out."),
            Wrong(
                lambda x, y: cka(x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True), centred=False),
                "The mean of each prompt is removed; remove that of each column, over prompts.",
            ),
        ],
    ),
    3: Number(
        right=by_chance,
        wrong=[
            Wrong(
                lambda full, quantized: cka(full[:SHUFFLED], quantized[:SHUFFLED]),
                "The pairs are still right: shuffle the rows of one side, and of one only.",
            ),
            Wrong(
                lambda full, quantized: by_chance(full, quantized, len(full)),
                "All rows are used; with 60 of them chance is another.",
            ),
            Wrong(
                lambda full, quantized: 0.0, "Chance is not 0: the plain form is never negative, so its mean is above."
            ),
        ],
        rtol=0.08,
    ),
    4: Function(
        right=subspace,
        cases=matrices,
        wrong=[
            Wrong(
                lambda x, y, k: float(np.abs(_cosines(x, y, k)).sum() / k), "Cosines are added up; their squares count."
            ),
            Wrong(lambda x, y, k: float((_cosines(x, y, k) ** 2).sum()), "The sum must be divided by k."),
            Wrong(left, "These are left singular vectors, patterns over prompts; directions are on the right."),
            Wrong(
                lambda x, y, k: float((_cosines(x, y, k, slice(-k, None)) ** 2).sum() / k),
                "These are the smallest directions; take those with the largest singular values.",
            ),
            Wrong(
                lambda x, y, k: subspace(x - x.mean(0), y - y.mean(0), k),
                "The column means are removed, and rows should stay as they are.",
            ),
        ],
    ),
    5: Number(
        right=shares,
        wrong=[
            Wrong(lambda full, *others: shares(full, *others)[::-1], "The two stand in the wrong order: 8 bits first."),
            Wrong(
                lambda full, *others: shares(full, *others, centred=False),
                "The column means are still in: remove those of the signal and of the error.",
            ),
            Wrong(of_streams, "That is the quantized stream; the error is what it lies off from full precision."),
            Wrong(
                lambda full, *others: [1 - share for share in shares(full, *others)],
                "That is the share outside the signal's directions.",
            ),
        ],
    ),
}
