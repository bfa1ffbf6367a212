"""Signal amplification: add what a middle layer already says to what the last layer says.

The logit lens reads logits off any layer's stream. Where the answer was formed but faded on the way up, adding alpha
times the lens logits of the layer that is most confident may bring it back (arXiv 2604.19884, signal recovery). The
paper leaves open which layer that is and when a layer counts as confident; here the choice is `rule`, and a layer is as
confident as its first choice is probable, which asks for no answer.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from quantcliff.errors import InputError
from quantcliff.relay import PROMPTS_AT_ONCE, Streams
from quantcliff.runner import Runner

ALPHAS = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0)
"""Weights that are tried; 0 leaves the model as it is, 2 to 9 are the paper's."""


def check_rule(rule: str | int, n_layers: int) -> None:
    """Raises InputError where `rule` names no layer of such a model (see `peak_layer`)."""
    if n_layers < 2:
        raise InputError("amplification needs a model of two layers: the lens of the last one is the output itself")
    if isinstance(rule, str) and rule not in ("prompt", "common"):
        raise InputError(f"unknown rule {rule!r} for the layer to amplify; choose prompt, common or a layer's number")
    if isinstance(rule, int) and not 0 <= rule < n_layers - 1:
        raise InputError(f"layer {rule} cannot be amplified; choose 0 to {n_layers - 2}")


def confidence(runner: Runner, streams: Streams) -> Float[np.ndarray, "prompt layer"]:
    """Probability of the first choice that the lens reads off each layer."""
    parts = [torch.softmax(runner.unembed(part), -1).amax(-1).cpu() for part in streams.split(PROMPTS_AT_ONCE)]
    return torch.cat(parts).numpy()


def peak_layer(
    confidence: Float[np.ndarray, "prompt layer"], rule: str | int, validation: Bool[np.ndarray, " prompt"]
) -> Int[np.ndarray, " prompt"]:
    """For each prompt the layer whose lens logits are added, never the last, whose lens is the output itself.

    Args:
        rule: "prompt": each prompt's own most confident layer; "common": one layer for all, the most confident on
            average over the validation prompts; or the number of a layer.

    Raises:
        InputError: an unknown rule, or a layer that is not there.
    """
    check_rule(rule, confidence.shape[1])
    below = confidence[:, :-1]
    if rule == "prompt":
        return below.argmax(1)
    return np.full(len(below), below[validation].mean(0).argmax() if rule == "common" else rule)


def best_alpha(ranks: Int[np.ndarray, "prompt alpha"], alphas: Sequence[float]) -> int:
    """Number of the alpha with which most of these prompts are right, the smallest where several are equally good."""
    right = (ranks == 1).sum(0)
    return min(range(len(alphas)), key=lambda index: (-int(right[index]), alphas[index]))
