"""Stage 4, the measures: attention patterns, FFN gates, top neurons and outputs of two models, as plain functions.

Source: arXiv 2604.19884, component analysis; where its formula is not published, a docstring says what was chosen.
"""

import math

import torch
from jaxtyping import Float, Int
from scipy.stats import hypergeom
from torch import Tensor

SINK = 2**-6
"""Share of attention from which on it counts as a sink's; rows stored in half precision add up to 1 within this."""


def normalised_entropy(pattern: Float[Tensor, "*rows key"], n_keys: Int[Tensor, "*#rows"]) -> Float[Tensor, "*rows"]:
    """How widely a query spreads its attention: H = -sum p ln p / ln(n_keys), 0 (one key) to 1 (all keys alike).

    Where a model has an attention sink (gpt-oss), the attention that lands on tokens adds up to less than 1; it is
    brought to 1 first.

    Args:
        pattern: attention probabilities of one query over the keys, 0 on masked and padded keys.
        n_keys: number of keys the query may look at: its position + 1 under a causal mask, never the padded length.

    Returns:
        Entropy as a share of its maximum, no unit; NaN where a query sees one key and the share means nothing.
    """
    pattern = pattern / torch.where(_sink(pattern) > 0, pattern.sum(-1, keepdim=True).clamp(min=1e-30), 1.0)
    entropy = torch.special.entr(pattern.double()).sum(-1)
    return torch.where(n_keys > 1, entropy / n_keys.double().log(), torch.nan).to(pattern.dtype)


def _sink(pattern: Float[Tensor, "*rows key"]) -> Float[Tensor, "*rows 1"]:
    """What of a query's attention lands on no token; 0 where that is no more than half precision leaves."""
    rest = 1 - pattern.sum(-1, keepdim=True)
    return torch.where(rest > SINK, rest, 0.0)


def jensen_shannon(p: Float[Tensor, "*rows key"], q: Float[Tensor, "*rows key"]) -> Float[Tensor, "*rows"]:
    """Jensen-Shannon divergence of two attention patterns in bits: 0 when equal, 1 when they share no key. An attention
    sink counts as one more key."""
    p, q = (torch.cat([pattern, _sink(pattern)], -1).double() for pattern in (p, q))
    entr = torch.special.entr
    divergence = (entr((p + q) / 2) - (entr(p) + entr(q)) / 2).sum(-1) / math.log(2)
    return divergence.clamp(0, 1).float()


def sign_flips(full: Float[Tensor, "*rows neuron"], quantized: Float[Tensor, "*rows neuron"]) -> Float[Tensor, "*rows"]:
    """Share of gate pre-activations whose sign differs, mean[sign(g_FP) != sign(g_Q)]; above 0.3 the paper says severe.

    A flipped gate opens a neuron that was shut, or shuts one that was open. Random signs give 0.5; NaN gives NaN.
    """
    flips = (full.sign() != quantized.sign()).to(full.dtype).mean(-1)
    return torch.where((full + quantized).isnan().any(-1), torch.nan, flips)


def top_count(n_neurons: int, share: float) -> int:
    """Number of neurons in the top `share`, rounded up, at least 1: 3 of 256 at 1%.

    Raises:
        ValueError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of top neurons must lie in (0, 1], not {share}")
    return max(1, math.ceil(round(share * n_neurons, 6)))


def top_overlap(
    full: Float[Tensor, "*rows neuron"], quantized: Float[Tensor, "*rows neuron"], share: float = 0.01
) -> Float[Tensor, "*rows"]:
    """Jaccard overlap |A and B| / |A or B| of the most active neurons of two models, 0 to 1; the paper's 0.1 is lost.

    Args:
        full, quantized: input of `down_proj`; its absolute value is a neuron's activity (chosen).
        share: share of neurons that counts as most active, see `top_count`.

    Returns:
        The overlap, no unit; NaN where an activity is.
    """
    k = top_count(full.shape[-1], share)
    chosen = []
    for activity in (full, quantized):
        index = activity.abs().topk(k).indices
        chosen.append(torch.zeros_like(activity, dtype=torch.bool).scatter_(-1, index, True))
    shared = (chosen[0] & chosen[1]).sum(-1)
    overlap = (shared / (2 * k - shared)).to(full.dtype)
    return torch.where((full + quantized).isnan().any(-1), torch.nan, overlap)


def chance_overlap(n_neurons: int, share: float = 0.01) -> float:
    """Expected `top_overlap` of two sets drawn at random: the overlap of two draws of k is hypergeometric."""
    k = top_count(n_neurons, share)
    draws = hypergeom(n_neurons, k, k)
    return float(sum(draws.pmf(i) * i / (2 * k - i) for i in range(k + 1)))


def cosine(full: Float[Tensor, "*rows d"], quantized: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows"]:
    """Cosine of two output vectors, -1 to 1; about 0 means the output lost its meaning. A zero vector gives 0."""
    return torch.nn.functional.cosine_similarity(full, quantized, dim=-1)
