"""The exercises on healing."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong


def read_back(weight: Tensor, scale: float, zero: float, bits: int) -> Tensor:
    """Weights (n,) -> what is read back of their codes."""
    codes = ((weight / scale).round() + round(zero)).clamp(0, 2**bits - 1)
    return (codes - round(zero)) * scale


def unclamped(weight: Tensor, scale: float, zero: float, bits: int) -> Tensor:
    return (weight / scale).round() * scale


def broken_zero(weight: Tensor, scale: float, zero: float, bits: int) -> Tensor:
    codes = ((weight / scale).round() + zero).clamp(0, 2**bits - 1)
    return (codes - zero) * scale


def no_zero(weight: Tensor, scale: float, zero: float, bits: int) -> Tensor:
    return ((weight / scale).round() + round(zero)).clamp(0, 2**bits - 1) * scale


def inside(weight: Tensor, scale: float, zero: float, bits: int) -> Tensor:
    """1 where a weight's code is not clamped, else 0."""
    codes = (weight / scale).round() + round(zero)
    return ((codes >= 0) & (codes <= 2**bits - 1)).float()


def grids() -> list[tuple[Tensor, float, float, int]]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(64, generator=draw), 0.7, 1.3, 2), (torch.randn(64, generator=draw), 0.31, 3.8, 3)]


def by_channel(given: Tensor, wanted: Tensor, floor: float = 0.01) -> Tensor:
    """The loss of the chapter, of outputs (tokens, channels)."""
    spread = wanted.var(0, correction=0)
    return (((given - wanted) ** 2).mean(0) / (spread + floor * spread.median())).mean()


def outputs() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    sizes = torch.tensor([1000.0, 1, 1, 2, 0.001])
    wanted = sizes * torch.randn(50, 5, generator=draw)
    return [(wanted + 0.3 * sizes * torch.randn(50, 5, generator=draw), wanted) for _ in range(2)]


def best_scale(inputs: Tensor, weight: Tensor, steps: Tensor) -> Tensor:
    """Scale of each row for which its codes give the least error of the output."""
    exact, coarse = inputs @ weight.T, inputs @ steps.T
    return (coarse * exact).sum(0) / (coarse**2).sum(0)


def matrices() -> list[tuple[Tensor, Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(2)
    mixing = torch.randn(16, 16, generator=draw)
    found = []
    for _ in range(2):
        inputs, weight = torch.randn(80, 16, generator=draw) @ mixing, torch.randn(4, 16, generator=draw)
        found.append((inputs, weight, (weight / 0.9).round().clamp(-2, 1)))
    return found


ARMS = ("scales only", "healed")


def way_back(found: Mapping[str, float], full: float) -> list[float]:
    """Share of the way back to full precision, in nats a token, that each arm has gone."""
    start = np.log(found["as it is"])
    return [float((start - np.log(found[arm])) / (start - np.log(full))) for arm in ARMS]


def in_perplexity(found: Mapping[str, float], full: float) -> list[float]:
    start = found["as it is"]
    return [(start - found[arm]) / (start - full) for arm in ARMS]


EXERCISES = {
    1: Choice(
        right="c",
        wrong={
            "a": "Lower loss says that the layers fit their targets on that text, not where an answer came from.",
            "b": "More text heals more in either case: it may also tell more of the facts.",
            "d": "That shows that steps alone do not help; the right target may still have been read off the text.",
        },
    ),
    2: Function(
        right=read_back,
        cases=grids,
        wrong=[
            Wrong(unclamped, "Codes below 0 or above the largest one do not exist: something has to be cut off."),
            Wrong(broken_zero, "The zero point is stored as a whole number, so it has to be rounded too."),
            Wrong(no_zero, "The zero point was added; take it off again before the scale is multiplied."),
        ],
    ),
    3: Function(
        right=inside,
        cases=grids,
        wrong=[
            Wrong(
                lambda weight, scale, zero, bits: torch.zeros_like(weight),
                "That is the true slope of rounding, with which nothing would ever be trained.",
            ),
            Wrong(
                lambda weight, scale, zero, bits: torch.ones_like(weight),
                "Rounding passes the slope on; the clamp behind it has a slope of its own.",
            ),
            Wrong(
                lambda weight, scale, zero, bits: inside(weight, scale, 0.0, bits),
                "The code is clamped after the zero point is added.",
            ),
        ],
    ),
    4: Function(
        right=by_channel,
        cases=outputs,
        wrong=[
            Wrong(
                lambda given, wanted: ((given - wanted) ** 2).mean(),
                "That is the plain error, which the one large channel rules.",
            ),
            Wrong(
                lambda given, wanted: by_channel(given, wanted, 0.0),
                "Nothing keeps a nearly constant channel from ruling: add a hundredth of the median variance.",
            ),
            Wrong(
                lambda given, wanted: ((given - wanted) ** 2).mean() / wanted.var(0, correction=0).mean(),
                "Divide channel by channel, and take the mean over channels last.",
            ),
            Wrong(
                lambda given, wanted: by_channel(wanted, given),
                "The variance is that of the target, not of the output.",
            ),
        ],
    ),
    5: Number(
        right=way_back,
        wrong=[
            Wrong(in_perplexity, "Perplexities are exponentials; the way is asked for in nats, their logarithms."),
            Wrong(lambda found, full: way_back(found, full)[::-1], "The order is scales only, then healed."),
            Wrong(
                lambda found, full: way_back(found, 1.0),
                "The way ends at full precision's perplexity, not at a model that is always certain.",
            ),
        ],
    ),
    6: Function(
        right=best_scale,
        cases=matrices,
        wrong=[
            Wrong(
                lambda inputs, weight, steps: (steps * weight).sum(1) / (steps**2).sum(1),
                "That fits the weights; the output is asked for, so what the inputs are matters.",
            ),
            Wrong(
                lambda inputs, weight, steps: 1 / best_scale(inputs, weight, steps),
                "That is what the codes' output is divided by; the scale multiplies it.",
            ),
            Wrong(
                lambda inputs, weight, steps: (
                    ((inputs @ steps.T) * (inputs @ weight.T)).sum() / ((inputs @ steps.T) ** 2).sum()
                ),
                "That is one scale for the matrix; each row has its own.",
            ),
        ],
    ),
}
