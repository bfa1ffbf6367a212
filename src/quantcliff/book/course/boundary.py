"""The exercises on the boundary."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong
from quantcliff.stages.boundary.margins import margins as library_margins


def margins(logits: Tensor, answers: Tensor) -> Tensor:
    """Logits (n, vocabulary) and one right token each -> margins (n,)."""
    return library_margins(logits, [[int(token)] for token in answers])


def beside_the_best(logits: Tensor, answers: Tensor) -> Tensor:
    return logits.gather(1, answers[:, None])[:, 0] - logits.amax(1)


def beside_the_mean(logits: Tensor, answers: Tensor) -> Tensor:
    own = logits.gather(1, answers[:, None])[:, 0]
    return own - (logits.sum(1) - own) / (logits.shape[1] - 1)


def answered() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(12, 30, generator=draw)
    best = logits.argmax(1)
    return [(logits, torch.where(torch.arange(12) % 2 == 0, best, (best + 1) % 30))]


def contraction(full: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """kappa of the line through the origin, and the share of answers that it foretells to be lost."""
    kappa = float(full @ own / (full @ full))
    return kappa, _lost(kappa, own - kappa * full, full)


def _lost(kappa: float, rest: np.ndarray, full: np.ndarray) -> float:
    return float(norm.cdf(-kappa * full / np.sqrt((rest**2).mean())).mean())


def turned(full: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    kappa = float(full @ own / (own @ own))
    return kappa, _lost(kappa, own - kappa * full, full)


def with_constant(full: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    kappa, shift = np.polyfit(full, own, 1)
    return float(kappa), _lost(kappa, own - kappa * full - shift, full)


def counted(full: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    return contraction(full, own)[0], float((own <= 0).mean())


def facts() -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    full = np.abs(draw.normal(5, 2, 400))
    return [(full, 0.6 * full + draw.normal(0, 1.5, 400)), (full, -0.3 * full + draw.normal(0, 2, 400))]


def rho(carried: np.ndarray, own: np.ndarray) -> float:
    """How much two errors, (tokens, channels), have in common: 0 where their energies add up."""
    return float((carried * own).sum() / np.sqrt((carried**2).sum() * (own**2).sum()))


def mean_cosine(carried: np.ndarray, own: np.ndarray) -> float:
    sizes = np.linalg.norm(carried, axis=1) * np.linalg.norm(own, axis=1)
    return float(((carried * own).sum(1) / sizes).mean())


def errors() -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(1)
    sizes = np.exp(draw.normal(0, 1, (60, 1)))
    carried = sizes * draw.normal(1, 1, (60, 8))
    return [(carried, draw.normal(0, 1, (60, 8)) - 0.4 * sizes * carried), (carried, draw.normal(1, 1, (60, 8)))]


def foretold(grid: pd.DataFrame, numbers: Sequence[str], power: int = 1, turned_round: bool = False) -> list[float]:
    """Mean error of the share kept of SmolLM2's cells, read off an isotonic curve over the embedded model's."""
    known, new = (grid[grid["model"] == name] for name in ("atlas", "smollm2"))
    if turned_round:
        known, new = new, known
    found = []
    for number in numbers:
        curve = IsotonicRegression(out_of_bounds="clip").fit(known[number], known["kept"])
        found.append(float((np.abs(curve.predict(new[number]) - new["kept"]) ** power).mean()))
    return found


EXERCISES = {
    1: Choice(
        right="d",
        wrong={
            "a": "A gap in the results may be a gap in what was tried: which models lie between these widths?",
            "b": "That the sizes of the two clusters are alike follows from how many models were made at each width.",
            "c": "Two Gaussians also beat one where the points lie on a bent line, or in heaps by design.",
        },
    ),
    2: Function(
        right=margins,
        cases=answered,
        wrong=[
            Wrong(
                beside_the_best,
                "The best token may be the right one itself, and the margin is then 0: take the best *wrong* one.",
            ),
            Wrong(beside_the_mean, "The rival is the best wrong token, not the average one."),
            Wrong(
                lambda logits, answers: margins(logits.softmax(1), answers),
                "These are differences of probabilities; the margin is one of logits.",
            ),
        ],
    ),
    3: Function(
        right=contraction,
        cases=facts,
        wrong=[
            Wrong(turned, "The two models are swapped in the slope: full precision's margins stand below the line."),
            Wrong(with_constant, "The line goes through the origin: no constant is fitted."),
            Wrong(counted, "The second number is what the line foretells, not what was seen to be lost."),
            Wrong(
                lambda full, own: (contraction(full, own)[0], 1 - contraction(full, own)[1]),
                "The second number is the share that is kept.",
            ),
        ],
        rtol=5e-3,
    ),
    4: Function(
        right=rho,
        cases=errors,
        wrong=[
            Wrong(mean_cosine, "That is a mean of cosines; the budget adds energies, so sum over tokens first."),
            Wrong(
                lambda carried, own: float(np.corrcoef(carried.ravel(), own.ravel())[0, 1]),
                "A mean is taken off; the budget knows of no mean.",
            ),
            Wrong(
                lambda carried, own: float((carried * own).sum() / ((carried**2).sum() * (own**2).sum())),
                "The root is missing below the line.",
            ),
        ],
    ),
    5: Number(
        right=foretold,
        wrong=[
            Wrong(
                lambda grid, numbers: foretold(grid, numbers, turned_round=True),
                "The curve is fitted on SmolLM2; fit it on the embedded model and foretell SmolLM2.",
            ),
            Wrong(
                lambda grid, numbers: foretold(grid, numbers, power=2),
                "These are squared errors; the mean distance is asked for.",
            ),
            Wrong(lambda grid, numbers: foretold(grid, numbers)[::-1], "The order is that of `numbers`."),
        ],
    ),
}
