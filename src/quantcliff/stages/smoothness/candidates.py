"""Effective next-token candidates around a sequence, and the temperature that makes entropies equal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from torch import Tensor
from transformers import PreTrainedModel

MASS = 0.9
"""Of the smallest set of candidates."""

TENTH = 0.1
"""Of the first candidate's probability: what comes above counts."""

AT_ONCE = 64
"""Sequences side by side."""

WIDEST = 7.0
"""|log tau| beyond which no temperature is looked for."""

Probabilities = Float[Tensor, "*rows vocab"]


def entropy(p: Probabilities) -> Float[Tensor, "*rows"]:
    """Nats."""
    return torch.special.entr(p).sum(-1)


def nucleus(p: Probabilities, places: Int[Tensor, "*rows vocab"] | None = None) -> Bool[Tensor, "*rows vocab"]:
    """The fewest tokens that hold `MASS` together.

    Args:
        places: the tokens of each row, likeliest first, where they are known: their order is that of the logits.
    """
    places = ranked(p) if places is None else places
    ordered = p.gather(-1, places)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(p, dtype=torch.bool).scatter(-1, places, before < MASS)


def ranked(values: Probabilities) -> Int[Tensor, "*rows vocab"]:
    """The tokens of each row, largest first; of equal ones the first."""
    return values.argsort(dim=-1, descending=True, stable=True)


def effective(p: Probabilities, sets: Bool[Tensor, "*rows vocab"] | None = None) -> dict[str, Float[Tensor, "*rows"]]:
    """E1, exp of the entropy; E2, the size of `nucleus`; E3, tokens of at least a tenth of the first's probability.

    Args:
        sets: `nucleus(p)`, where it is there already.
    """
    return {
        "E1": entropy(p).exp(),
        "E2": (nucleus(p) if sets is None else sets).sum(-1).float(),
        "E3": (p >= TENTH * p.amax(-1, keepdim=True)).sum(-1).float(),
    }


def matching(logits: Float[Tensor, "n vocab"], wanted: float) -> float:
    """The factor on the logits that makes their mean entropy `wanted` nats; the nearest in range where none does."""

    def off(log_tau: float) -> float:
        return float(entropy(torch.softmax(np.exp(log_tau) * logits, -1)).mean()) - wanted

    low, high = off(-WIDEST), off(WIDEST)
    if low * high > 0:
        return float(np.exp(-WIDEST if abs(low) < abs(high) else WIDEST))
    return float(np.exp(brentq(off, -WIDEST, WIDEST, xtol=1e-4)))


@torch.no_grad()
def next_logits(hf: PreTrainedModel, ids: Int[Tensor, "n place"]) -> Float[Tensor, "n vocab"]:
    """After the last token of every row."""
    parts = [hf(part.to(hf.device), use_cache=False, logits_to_keep=1).logits[:, -1] for part in ids.split(AT_ONCE)]
    return torch.cat(parts).float().cpu()


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Predictions around every start.

    Attributes:
        sizes: E1, E2, E3, mean over the neighbours; `shift`: mean total variation from the prediction at the start.
        union: all candidates (`nucleus`) of the neighbours; its size is also in `sizes`.
    """

    sizes: dict[str, Float[np.ndarray, " prefix"]]
    union: Bool[Tensor, "prefix vocab"]


def around(
    own: Float[Tensor, "prefix vocab"], logits: Sequence[Float[Tensor, "neighbour vocab"]], taus: Sequence[float]
) -> list[Neighbourhood]:
    """At each temperature, from logits at the starts, and of each start's neighbours."""
    found: list[list[tuple[dict[str, float], Tensor]]] = [[] for _ in taus]
    for center, part in zip(own, logits, strict=True):
        places = ranked(part)  # once: a temperature changes no order
        for tau, rows in zip(taus, found, strict=True):
            p, q = (torch.softmax(tau * values, -1) for values in (part, center))
            sets = nucleus(p, places)
            union = sets.any(0)
            row = {name: float(values.mean()) for name, values in effective(p, sets).items()}
            row |= {"shift": float((p - q).abs().sum(-1).mean() / 2), "union": float(union.sum())}
            rows.append((row, union))
    return [
        Neighbourhood({name: np.array([row[name] for row, _ in rows]) for name in rows[0][0]},
                      torch.stack([union for _, union in rows]))
        for rows in found
    ]  # fmt: skip


def share_in(one: Bool[Tensor, "prefix vocab"], other: Bool[Tensor, "prefix vocab"]) -> Float[np.ndarray, " prefix"]:
    """Of the candidates in `one` the share that are in `other` too."""
    return ((one & other).sum(-1) / one.sum(-1)).double().numpy()
