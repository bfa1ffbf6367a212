"""Signal amplification: add what a middle layer already says to what the last layer says.

The logit lens reads logits off any layer's stream. Where the answer was formed but faded on the way up, adding alpha
times the lens logits of the layer that is most confident may bring it back (arXiv 2604.19884, signal recovery). The
paper leaves open which layer that is and when a layer counts as confident. Here a layer is as confident as its first
choice is probable, which asks for no answer, and the choice of layer is `rule`:

- "peak": each prompt's own most confident layer;
- "common": one layer for all prompts, the most confident on average over the validation prompts;
- "tuned": one layer for all prompts, the one that with the best alpha gives most right answers on validation prompts;
- a number: that layer.

The last layer is never chosen: its lens is the output itself.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.tracing import PROMPTS_AT_ONCE, Runner, Streams, rank_of

RULES = ("peak", "common", "tuned")

ALPHAS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0)
"""Weights that are tried; 0 leaves the model as it is, 2 to 9 are the paper's."""


def check_rule(rule: str | int, n_layers: int) -> None:
    """Raises InputError where `rule` is none, or names no layer that can be amplified in such a model."""
    if n_layers < 2:
        raise InputError("amplification needs a model of two layers: the lens of the last one is the output itself")
    if isinstance(rule, str) and rule not in RULES:
        choices = ", ".join(RULES)
        raise InputError(f"unknown rule {rule!r} for the layer to amplify; choose {choices} or a layer's number")
    if isinstance(rule, int) and not 0 <= rule < n_layers - 1:
        raise InputError(f"layer {rule} cannot be amplified; choose 0 to {n_layers - 2}")


def confidence(runner: Runner, streams: Streams) -> Float[np.ndarray, "prompt layer"]:
    """Probability of the first choice that the lens reads off each layer."""
    parts = [torch.softmax(runner.unembed(part), -1).amax(-1).cpu() for part in streams.split(PROMPTS_AT_ONCE)]
    return torch.cat(parts).numpy()


def candidates(
    confidence: Float[np.ndarray, "prompt layer"], rule: str | int, validation: Bool[np.ndarray, " prompt"]
) -> list[Int[np.ndarray, " prompt"]]:
    """The layers that a rule leaves to choose from: each entry gives one layer per prompt.

    Raises:
        InputError: an unknown rule, or a layer that is not there.
    """
    check_rule(rule, confidence.shape[1])
    below = confidence[:, :-1]
    n, n_layers = below.shape
    if rule == "peak":
        return [below.argmax(1)]
    if rule == "tuned":
        return [np.full(n, layer) for layer in range(n_layers)]
    return [np.full(n, below[validation].mean(0).argmax() if rule == "common" else rule)]


def amplified_ranks(
    runner: Runner,
    streams: Float32[Tensor, "prompt d_model"],
    added: Sequence[Float32[Tensor, "prompt d_model"]],
    alphas: Sequence[float],
    answers: Sequence[Sequence[int]],
) -> Int[np.ndarray, "candidate prompt alpha"]:
    """Rank of the answer in the logits of `streams` plus alpha times those of each of `added`, for every alpha."""
    parts = []
    for start in range(0, len(streams), PROMPTS_AT_ONCE):
        rows = slice(start, start + PROMPTS_AT_ONCE)
        final = runner.unembed(streams[rows])
        lenses = [runner.unembed(lens[rows]) for lens in added]
        here = [[rank_of(final + alpha * lens, answers[rows]) for alpha in alphas] for lens in lenses]
        parts.append(torch.stack([torch.stack(columns, 1) for columns in here]).cpu())
    return torch.cat(parts, 1).numpy()


def best(ranks: Int[np.ndarray, "candidate prompt alpha"], alphas: Sequence[float]) -> tuple[int, int]:
    """Numbers of the candidate and the alpha with which most of these prompts are right.

    Where several are equally good, the smallest alpha, then the highest layer.
    """
    right = (ranks == 1).sum(1)
    pairs = [(c, a) for c in range(right.shape[0]) for a in range(right.shape[1])]
    return min(pairs, key=lambda pair: (-int(right[pair]), alphas[pair[1]], -pair[0]))
