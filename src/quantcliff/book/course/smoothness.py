"""The exercises on smoothness."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong
from quantcliff.stages.smoothness.beyond import partial
from quantcliff.stages.smoothness.candidates import effective, entropy, matching

Predict = Callable[[Tensor], Tensor]


def candidates(p: Tensor) -> Tensor:
    """E1 and E2 of predictions (n, vocabulary) -> (n, 2)."""
    found = effective(p)
    return torch.stack([found["E1"], found["E2"]], 1)


def one_fewer(p: Tensor) -> Tensor:
    held = p.sort(1, descending=True).values.cumsum(1)
    return torch.stack([entropy(p).exp(), (held <= 0.9).sum(1).float()], 1)


def rising(p: Tensor) -> Tensor:
    held = p.sort(1).values.cumsum(1)
    return torch.stack([entropy(p).exp(), 1 + (held < 0.9).sum(1).float()], 1)


def in_bits(p: Tensor) -> Tensor:
    return torch.stack([(entropy(p) / np.log(2)).exp(), effective(p)["E2"]], 1)


def tenths(p: Tensor) -> Tensor:
    found = effective(p)
    return torch.stack([found["E1"], found["E3"]], 1)


def predictions() -> list[tuple[Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [((size * torch.randn(6, 40, generator=draw)).softmax(1),) for size in (1.0, 3.0)]


def targets() -> list[tuple[Tensor, float]]:
    draw = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20, 50, generator=draw)
    return [(logits, 1.0), (logits, 3.0)]


def of_the_mean(logits: Tensor, wanted: float) -> float:
    """The factor for which the *mean prediction* has the wanted entropy, by bisection."""
    low, high = -7.0, 7.0
    for _ in range(60):
        middle = (low + high) / 2
        flat = float(entropy((np.exp(middle) * logits).softmax(1).mean(0))) > wanted
        low, high = (middle, high) if flat else (low, middle)
    return float(np.exp(low))


def slope(predict: Predict, e: Tensor, u: Tensor, r: float) -> float:
    """Finite slope of log-probabilities: a step of length r along u."""
    return float((predict(e + r * u / u.norm()) - predict(e)).norm() / r)


def steps() -> list[tuple[Predict, Tensor, Tensor, float]]:
    draw = torch.Generator().manual_seed(2)
    matrix = torch.randn(30, 8, generator=draw)

    def predict(e: Tensor) -> Tensor:
        return (matrix @ torch.tanh(e)).log_softmax(0)

    e, u = torch.randn(8, generator=draw), 3 * torch.randn(8, generator=draw)
    return [(predict, e, u, 0.1), (predict, e, u, 1.0)]


def given_one(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Spearman correlation of x and y with one number held fixed."""
    return partial(x, y, given[:, None])


def plain(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    return partial(x, y, np.empty((len(x), 0)))


def of_values(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """The same of the numbers themselves, not of their ranks."""
    r = np.corrcoef([x, y, given])
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)))


def half_done(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """The numerator alone."""
    ranked = [np.argsort(np.argsort(values)) for values in (x, y, given)]
    r = np.atleast_2d(np.corrcoef(ranked))
    return float(r[0, 1] - r[0, 2] * r[1, 2])


def measured() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    hidden = draw.normal(size=80)
    return [
        (
            np.exp(hidden + noise * draw.normal(size=80)),
            hidden**3 + draw.normal(size=80),
            hidden + draw.normal(0, 0.5, 80),
        )
        for noise in (0.3, 1.0)
    ]


def by_chance(own: Tensor, full: Tensor, shifted: bool = False) -> list[float]:
    """Of full precision's candidates (starts, vocabulary) the share that is the model's too: of the same start, and of
    the next one (the first after the last)."""
    other = full.roll(-1, 0)
    found = [float(((own & part).sum(1) / part.sum(1)).mean()) for part in (full, other)]
    return found[::-1] if shifted else found


def shared_of_own(own: Tensor, full: Tensor) -> list[float]:
    other = full.roll(-1, 0)
    return [float(((own & part).sum(1) / own.sum(1)).mean()) for part in (full, other)]


EXERCISES = {
    1: Choice(
        right="a",
        wrong={
            "b": "A temperature moves no rank, so that accuracy stays as it is.",
            "c": "The same text is read by both; what differs is how sure they are.",
            "d": "The twin has one factor for all logits: gradients are larger or smaller by it, and as noisy.",
        },
    ),
    2: Function(
        right=candidates,
        cases=predictions,
        wrong=[
            Wrong(one_fewer, "The token that brings the sum over 90% belongs to the set: there is one too few."),
            Wrong(rising, "The *fewest* tokens are asked for: begin with the most probable ones."),
            Wrong(in_bits, "The entropy is in bits there, and e is raised to it: use nats."),
            Wrong(tenths, "The second number counts tokens of a tenth of the first's probability; that is E3."),
        ],
    ),
    3: Function(
        right=matching,
        cases=targets,
        wrong=[
            Wrong(
                lambda logits, wanted: 1 / matching(logits, wanted),
                "That is the temperature, by which logits are divided; the factor multiplies them.",
            ),
            Wrong(of_the_mean, "That is the entropy of the mean prediction; the mean of the entropies is asked for."),
        ],
        rtol=5e-3,
    ),
    4: Function(
        right=slope,
        cases=steps,
        wrong=[
            Wrong(
                lambda predict, e, u, r: float((predict(e + r * u) - predict(e)).norm() / r),
                "The direction has a length of its own: make it 1, or the step is longer than r.",
            ),
            Wrong(lambda predict, e, u, r: r * slope(predict, e, u, r), "Divide by the length of the step."),
            Wrong(
                lambda predict, e, u, r: float((predict(e + r * u / u.norm()).exp() - predict(e).exp()).norm() / r),
                "Log-probabilities are compared, not probabilities.",
            ),
        ],
    ),
    5: Number(
        right=by_chance,
        wrong=[
            Wrong(
                shared_of_own,
                "That is the share of the model's own candidates; of full precision's it is asked for.",
            ),
            Wrong(lambda own, full: by_chance(own, full, shifted=True), "The same start comes first, chance second."),
        ],
    ),
    6: Function(
        right=given_one,
        cases=measured,
        wrong=[
            Wrong(plain, "Nothing is held fixed there: that is the plain rank correlation."),
            Wrong(of_values, "That correlates the numbers; take their ranks first."),
            Wrong(half_done, "Divide by what both have left when the third is known."),
        ],
    ),
}
