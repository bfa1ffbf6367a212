"""The exercises on activations, the cache, and more than recall."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.linalg import hadamard as signs
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong


def by_token(x: Tensor, bits: int, axis: int = 1) -> Tensor:
    """Inputs (tokens, channels), one scale for each token, taken from it as it comes."""
    scale = x.abs().amax(axis, keepdim=True) / ((2**bits - 1) / 2)
    return scale * (x / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def by_tensor(x: Tensor, bits: int) -> Tensor:
    scale = x.abs().max() / ((2**bits - 1) / 2)
    return scale * (x / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def signed(x: Tensor, bits: int) -> Tensor:
    scale = x.amax(1, keepdim=True) / ((2**bits - 1) / 2)
    return scale * (x / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def unclamped(x: Tensor, bits: int) -> Tensor:
    scale = x.abs().amax(1, keepdim=True) / ((2**bits - 1) / 2)
    return scale * (x / scale).round()


def inputs() -> list[tuple[Tensor, int]]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(6, 32, generator=draw) - 0.2, bits) for bits in (4, 3)]


def silenced(x: Tensor, bits: int, swapped: bool = False, first: bool = False) -> list[float]:
    """Share of the numbers of all tokens but the first that are rounded to 0: one scale for all, one for each token."""
    found = [float((way(x, bits)[0 if first else 1 :] == 0).float().mean()) for way in (by_tensor, by_token)]
    return found[::-1] if swapped else found


def turned(x: Tensor, bits: int) -> Tensor:
    """Turned by a Hadamard matrix, rounded by token, and turned back: (tokens, channels), channels a power of 2."""
    turn = _turn(x)
    return by_token(x @ turn, bits) @ turn.T


def _turn(x: Tensor) -> Tensor:
    return torch.tensor(signs(x.shape[1]), dtype=x.dtype) / x.shape[1] ** 0.5


def massive() -> list[tuple[Tensor, int]]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(5, 16, generator=draw)
    x[:, 3] *= 40
    return [(x, 4), (x, 8)]


def where(jsd: np.ndarray, miss: np.ndarray) -> float:
    """Where-share of the means over prompts."""
    return float(jsd.mean() / (jsd.mean() + miss.mean()))


def damages() -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [(draw.gamma(1, 0.1, 40), draw.gamma(0.5, 0.4, 40)), (draw.gamma(0.5, 0.05, 40), draw.gamma(2, 0.1, 40))]


def blamed(ranks: Mapping[str, np.ndarray], lost: bool = True, level: float = 0.5) -> list[bool]:
    """Whether each part (weights, inputs, cache) is to blame: half of the lost answers return without it."""
    gone = ranks["all"] > 1 if lost else ranks["all"] > 0
    return [bool((ranks[f"without {part}"][gone] == 1).mean() >= level) for part in ("weights", "inputs", "cache")]


EXERCISES = {
    1: Choice(
        right="b",
        wrong={
            "a": "Few answers are left in a degradation too; ask whether they form and whether clean input helps.",
            "c": "The weights are exact here, so nothing wrong is stored; and yet a mode has to be found.",
            "d": "Bits do not name the mode, of weights or of anything else: see what 2-bit keys do.",
        },
    ),
    2: Function(
        right=by_token,
        cases=inputs,
        wrong=[
            Wrong(by_tensor, "That is one scale for all tokens; each token has its own."),
            Wrong(
                lambda x, bits: by_token(x, bits, axis=0),
                "There is a scale for each channel here: the largest number of each *token* is asked for.",
            ),
            Wrong(signed, "The largest *absolute* number of a token decides."),
            Wrong(unclamped, "The integers go from -2^(b-1) to 2^(b-1) - 1; the largest number would be one too high."),
        ],
    ),
    3: Number(
        right=silenced,
        wrong=[
            Wrong(
                lambda x, bits: silenced(x, bits, first=True),
                "The first token is counted too; only what it does to the others is asked for.",
            ),
            Wrong(lambda x, bits: silenced(x, bits, swapped=True), "One scale for all comes first."),
            Wrong(
                lambda x, bits: [1 - share for share in silenced(x, bits)],
                "These are the numbers that are left; those that are rounded to 0 are asked for.",
            ),
        ],
    ),
    4: Function(
        right=turned,
        cases=massive,
        wrong=[
            Wrong(by_token, "The inputs are not turned before they are rounded."),
            Wrong(
                lambda x, bits: by_token(x @ _turn(x), bits),
                "They are still turned: turn them back, or the weights that read them would have to be turned too.",
            ),
            Wrong(
                lambda x, bits: x.shape[1] * turned(x, bits),
                "The matrix of signs is as long as the root of its size: divide by it.",
            ),
        ],
        atol=1e-4,
    ),
    5: Function(
        right=where,
        cases=damages,
        wrong=[
            Wrong(
                lambda jsd, miss: float((jsd / (jsd + miss)).mean()),
                "That is the mean of shares: prompts with hardly any damage count as much as others. Take means first.",
            ),
            Wrong(
                lambda jsd, miss: float(jsd.mean() / (jsd.mean() + 1 - miss.mean())),
                "`miss` is one minus the cosine already.",
            ),
            Wrong(lambda jsd, miss: float(jsd.mean() / miss.mean()), "That is a ratio; a share is of the whole."),
        ],
    ),
    6: Number(
        right=blamed,
        wrong=[
            Wrong(
                lambda ranks: blamed(ranks, lost=False),
                "Of all answers most are right anyway; look at those that are lost with everything quantized.",
            ),
            Wrong(
                lambda ranks: [not one for one in blamed(ranks)],
                "It is the other way round: a part is to blame if answers return *without* it.",
            ),
            Wrong(
                lambda ranks: blamed(ranks, level=1.0),
                "Half of the lost answers are enough; not all of them have to return.",
            ),
        ],
    ),
}
