"""The exercises on patching."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong
from quantcliff.tracing import Batch, Runner, patch_resid_post

Layers = Sequence[Callable[[np.ndarray], np.ndarray]]


def recovery(patched: np.ndarray, quantized: np.ndarray, full: np.ndarray) -> float:
    """The ratio of the mean gain to the mean gap; arrays (prompts,)."""
    return float((patched - quantized).mean() / (full - quantized).mean())


def chances() -> list[tuple[np.ndarray, ...]]:
    """Probabilities of many prompts, one of which both models answer all but alike."""
    draw = np.random.default_rng(0)
    quantized, full = draw.uniform(0, 0.3, 20), draw.uniform(0.5, 1, 20)
    full[0] = quantized[0] + 1e-3
    return [(quantized + 0.4 * (full - quantized) + draw.normal(0, 0.05, 20), quantized, full)]


def patched(layers: Layers, start: np.ndarray, at: int, donor: np.ndarray) -> np.ndarray:
    """The stream after the last layer, with the stream after layer `at` replaced."""
    stream = donor
    for layer in layers[at + 1 :]:
        stream = stream + layer(stream)
    return stream


def without_residual(layers: Layers, start: np.ndarray, at: int, donor: np.ndarray) -> np.ndarray:
    stream = donor
    for layer in layers[at + 1 :]:
        stream = layer(stream)
    return stream


def added(layers: Layers, start: np.ndarray, at: int, donor: np.ndarray) -> np.ndarray:
    stream = start
    for number, layer in enumerate(layers):
        stream = stream + layer(stream) + donor * (number == at)
    return stream


def alone(layers: Layers, start: np.ndarray, at: int, donor: np.ndarray) -> np.ndarray:
    return patched(layers, start, -1, start)


def networks() -> list[tuple[list[Callable], np.ndarray, int, np.ndarray]]:
    """A network of four layers of width 6, cut after each of them."""
    draw = np.random.default_rng(1)
    weights = [draw.normal(0, 0.5, (6, 6)) for _ in range(4)]
    layers = [lambda stream, weight=weight: np.tanh(weight @ stream) for weight in weights]
    return [(layers, draw.normal(size=6), at, draw.normal(size=6)) for at in range(4)]


def interaction(full: np.ndarray, forward: np.ndarray, reverse: np.ndarray, quantized: np.ndarray) -> float:
    """Of the mean log-odds of four arrays of probabilities (prompts,)."""
    return _interaction(*(np.log(p / (1 - p)).mean() for p in (full, forward, reverse, quantized)))


def _interaction(full: float, forward: float, reverse: float, quantized: float) -> float:
    return float((full - forward - reverse + quantized) / (full - quantized))


def cut() -> list[tuple[np.ndarray, ...]]:
    draw = np.random.default_rng(2)
    return [tuple(draw.uniform(low, low + 0.2, 30) for low in (0.75, 0.2, 0.3, 0.02)) for _ in range(2)]


def reversed_patch(
    full: Runner, quantized: Runner, clean: Tensor, own: Tensor, batch: Batch, right: int, *, layer: int = 2
) -> float:
    """Probability of the right answer in full precision with the quantized stream after a layer."""
    donor = own[1:, 0].transpose(0, 1)
    everywhere = torch.ones_like(batch.ids, dtype=torch.bool)
    logits = patch_resid_post(full, clean, range(layer, layer + 1), everywhere, donor, batch.last)
    return _chance(logits, right)


def _chance(logits: Tensor, right: int) -> float:
    return torch.softmax(logits.reshape(-1), -1)[right].item()


EXERCISES = {
    1: Choice(
        right="c",
        wrong={
            "a": "A patch tests the layers behind it; ask which layers those are here.",
            "b": "The stream that the damage was in has been thrown away, so its size cannot show.",
            "d": "Norm and head are not quantized here, so nothing is learned about that.",
        },
    ),
    2: Function(
        right=recovery,
        cases=chances,
        wrong=[
            Wrong(
                lambda patched, quantized, full: ((patched - quantized) / (full - quantized)).mean(),
                "That is a mean of ratios, which prompts with hardly any loss rule; take the means first.",
            ),
            Wrong(
                lambda patched, quantized, full: patched.mean() / full.mean(),
                "What the quantized model has by itself is no recovery: take it off above and below.",
            ),
            Wrong(
                lambda patched, quantized, full: (full - patched).mean() / (full - quantized).mean(),
                "That is the share that stays lost.",
            ),
        ],
    ),
    3: Function(
        right=patched,
        cases=networks,
        wrong=[
            Wrong(
                lambda layers, start, at, donor: patched(layers, start, at - 1, donor),
                "The donor goes in one layer too early: it replaces the stream after layer `at`, not before it.",
            ),
            Wrong(without_residual, "A layer adds to the stream; here its output replaces it."),
            Wrong(added, "The donor is added to the stream, where it should replace it."),
            Wrong(alone, "The donor has no effect: the network runs from the start and is never cut."),
        ],
    ),
    4: Function(
        right=interaction,
        cases=cut,
        wrong=[
            Wrong(
                lambda *four: _interaction(*(p.mean() for p in four)),
                "These are probabilities, which have a floor; the scores are log-odds.",
            ),
            Wrong(
                lambda *four: _interaction(*(np.log(p).mean() for p in four)),
                "That is ln p; log-odds are ln p - ln(1 - p).",
            ),
            Wrong(
                lambda *four: _interaction(*(np.log(p.mean() / (1 - p.mean())) for p in four)),
                "The mean is taken of the probabilities; take the scores first, then their mean.",
            ),
        ],
        rtol=1e-4,
    ),
    5: Number(
        right=reversed_patch,
        wrong=[
            Wrong(
                partial(reversed_patch, layer=1),
                "Two layers are quantized here; layers 0 to 2 are three.",
            ),
            Wrong(
                partial(reversed_patch, layer=3),
                "Four layers are quantized here; layers 0 to 2 are three.",
            ),
            Wrong(
                lambda full, quantized, clean, own, batch, right: _chance(full.unembed(clean[-1, :, -1]), right),
                "That is full precision itself: no weight was taken from the other model.",
            ),
            Wrong(
                lambda full, quantized, clean, own, batch, right: _chance(full.unembed(own[-1, :, -1]), right),
                "That is the quantized model itself: all of its weights were taken.",
            ),
        ],
        rtol=2e-3,
    ),
}
