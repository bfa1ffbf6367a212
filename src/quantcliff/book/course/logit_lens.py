"""The exercises on the logit lens."""

import numpy as np
import torch
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong


def lens(stream: Tensor, gain: Tensor, head: Tensor, eps: float) -> Tensor:
    """Streams (layer, width) -> probabilities (layer, vocabulary), through an RMS norm and the head."""
    return torch.softmax(_logits(stream, gain, head, eps), -1)


def _logits(stream: Tensor, gain: Tensor, head: Tensor, eps: float) -> Tensor:
    return stream / (stream.pow(2).mean(-1, keepdim=True) + eps).sqrt() * gain @ head.T


def without_norm(stream: Tensor, gain: Tensor, head: Tensor, eps: float) -> Tensor:
    return torch.softmax(stream @ head.T, -1)


def without_gain(stream: Tensor, gain: Tensor, head: Tensor, eps: float) -> Tensor:
    return lens(stream, torch.ones_like(gain), head, eps)


def whole_norm(stream: Tensor, gain: Tensor, head: Tensor, eps: float) -> Tensor:
    return torch.softmax(stream / (stream.pow(2).mean() + eps).sqrt() * gain @ head.T, -1)


def moved(stream: Tensor, gain: Tensor, head: Tensor, eps: float) -> Tensor:
    return lens(stream - stream.mean(-1, keepdim=True), gain, head, eps)


def streams() -> list[tuple[Tensor, Tensor, Tensor, float]]:
    """Streams of four layers that grow from layer to layer, a gain, and a head of thirty tokens."""
    draw = torch.Generator().manual_seed(0)
    stream = torch.randn(4, 16, generator=draw) * torch.tensor([[0.1], [1.0], [3.0], [9.0]]) + 0.3
    return [(stream, torch.rand(16, generator=draw) + 0.5, torch.randn(30, 16, generator=draw), 1e-6)]


def rank(logits: Tensor, token: int) -> int:
    """Place of a token among its logits, from 1; equal logits share the better place."""
    return int((logits > logits[token]).sum()) + 1


def ranked() -> list[tuple[Tensor, int]]:
    logits = torch.tensor([0.5, 2.0, -1.0, 2.0, 7.0, 1.0])
    return [(logits, 4), (logits, 3), (logits, 1), (logits, 2), (logits, 0)]


def means(chances: np.ndarray, *tokens: np.ndarray) -> np.ndarray:
    """Mean probability of one token for each prompt, for several choices of tokens."""
    rows = np.arange(len(chances))
    return np.array([chances[rows, chosen].mean() for chosen in tokens])


def overtaken(stream: Tensor, gain: Tensor, head: Tensor, eps: float, right: int) -> int:
    """First layer from which on the token that wins in the end stays ahead of the right one."""
    logits = _logits(stream, gain, head, eps)
    behind = torch.nonzero(logits[:, int(logits[-1].argmax())] <= logits[:, right])
    return int(behind.max()) + 1 if len(behind) else 0


EXERCISES = {
    1: Choice(
        right="b",
        wrong={
            "a": "The lens sees only what the head can read already; what later layers turn towards it stays dark.",
            "c": "What the head cannot read yet may be just what the answer is made from further up.",
            "d": "The norm takes the length of the stream away, so a dark lens says nothing of its size.",
        },
    ),
    2: Function(
        right=lens,
        cases=streams,
        wrong=[
            Wrong(without_norm, "The stream goes into the head as it is: the final norm is missing."),
            Wrong(without_gain, "The norm has a gain for each direction; multiply by it before the head."),
            Wrong(
                whole_norm, "All layers are divided by one number: the mean runs over the width, for each layer alone."
            ),
            Wrong(moved, "An RMS norm subtracts no mean; that is what a LayerNorm does."),
            Wrong(_logits, "These are logits; the softmax is missing."),
            Wrong(
                lambda *case: torch.softmax(_logits(*case), 0),
                "The softmax runs over the layers instead of the tokens.",
            ),
        ],
    ),
    3: Function(
        right=rank,
        cases=ranked,
        wrong=[
            Wrong(lambda logits, token: rank(logits, token) - 1, "The first place is 1, and here it is 0."),
            Wrong(lambda logits, token: rank(-logits, token), "This counts from the smallest logit upwards."),
            Wrong(
                lambda logits, token: int((logits >= logits[token]).sum()),
                "Equal logits share the better place, and here they get the worse one.",
            ),
            Wrong(
                lambda logits, token: int(logits.argsort(descending=True, stable=True)[token]),
                "That is the token in a certain place, not the place of the token.",
            ),
        ],
    ),
    4: Number(
        right=means,
        wrong=[
            Wrong(
                lambda chances, *tokens: np.array([chances[:, chosen].mean() for chosen in tokens]),
                "`lens5[:, tokens]` pairs every prompt with every answer; take one token from each row.",
            ),
            Wrong(
                lambda chances, own, same, other: means(chances, own, other, same),
                "The two controls are swapped: the same relation comes second.",
            ),
            Wrong(
                lambda chances, *tokens: np.array([np.median(chances[range(len(chances)), one]) for one in tokens]),
                "These are medians; means are asked for.",
            ),
        ],
    ),
    5: Number(
        right=overtaken,
        wrong=[
            Wrong(lambda *data: overtaken(*data) + 1, "One too many: layers are counted from 0."),
            Wrong(
                lambda *data: overtaken(*data) - 1, "That is the last layer at which the right answer is still ahead."
            ),
        ],
    ),
}
