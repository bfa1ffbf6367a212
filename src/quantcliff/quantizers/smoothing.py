"""Take AWQ's rescaling out of a quantized model again, so that its weights can be laid beside the base's.

AWQ (arXiv 2306.00978) divides the output channels of a norm (or of `up_proj`, `v_proj`) by scales s and multiplies the
matching input channels of the layers that read it by s, before it rounds. The function stays, the numbers do not: a
weight, an activated neuron or a normed input of such a model means something else than in the base. Here the scales
are moved back, which again changes no output; what is left of the difference is rounding.
"""

import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantcliff.models import Model

READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "pre_feedforward_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Norm -> linear layers that read it; Gemma has the second, and then its third is read by nothing linear."""

STORED = 2**-7
"""Relative difference of a norm that storing it in bfloat16 explains, and no smoothing."""

CHAINS = (("self_attn.v_proj", "self_attn.o_proj"), ("mlp.up_proj", "mlp.down_proj"))
"""Linear layers whose output channels are the input channels of another, up to a factor that does not mix them."""


def unsmoothed(base: Model, quantized: Model, rounded: bool = True) -> Model:
    """The same function as `quantized`, with the norms of `base` and its weights in the base's units.

    Exact for scales that a norm carries. Scales between two linear layers are estimated from the rounded weights; a
    wrong estimate shifts units between the two and still leaves the function as it was. AWQ may rescale only those in a
    layer; scales that bring the second of two layers no nearer to the base are none. A model all of whose norms are the
    base's own (GPTQ, round-to-nearest) comes back as it is, the same object. A norm that differs while none of its
    readers makes up for it was not smoothed, and stays as it is.

    Args:
        rounded: `quantized` holds the rounded weights. False: `base` does, and what comes back is the exact model in
            the units of the rounded one. Factors between the two are estimated over the exact weights, since noise in
            what one divides by makes them too small.
    """
    mine, theirs = dict(quantized.hf.named_modules()), dict(base.hf.named_modules())
    moved = [name for name in theirs if _moved_norm(name, theirs, mine, rounded)]
    if not moved:
        return quantized
    hf = copy.deepcopy(quantized.hf)
    mine = dict(hf.named_modules())
    for name in moved:
        layer, norm = name.rsplit(".", 1)
        gain = norm_gain(mine[name]) / norm_gain(theirs[name])
        for reader in READERS[norm]:
            _scale_inputs(mine[f"{layer}.{reader}"], gain)
        with torch.no_grad():
            mine[name].weight.copy_(theirs[name].weight)
    for layer in dict.fromkeys(name.rsplit(".", 1)[0] for name in theirs if name.endswith(tuple(READERS))):
        for first, second in CHAINS:
            here, there = mine.get(f"{layer}.{first}"), mine.get(f"{layer}.{second}")
            if not isinstance(here, nn.Linear) or not isinstance(there, nn.Linear):
                continue
            if here.out_features == there.in_features:
                gain = _factors(here, theirs[f"{layer}.{first}"], rounded, columns=False)
                if _made_up_for(there, theirs[f"{layer}.{second}"], gain, rounded):
                    _scale_outputs(here, 1 / gain)
                    _scale_inputs(there, gain)
    return replace(quantized, hf=hf)


def norm_gain(norm: nn.Module) -> Float[Tensor, " d_model"]:
    """Factor on each channel, whatever the norm's convention (weight, 1 + weight): its output for a row of ones."""
    assert isinstance(norm.weight, Tensor)
    with torch.no_grad():
        return norm(torch.ones_like(norm.weight)[None])[0]


def row_gain(rounded: Float[Tensor, "out in"], exact: Float[Tensor, "out in"]) -> Float[Tensor, " out"]:
    """Least-squares factor of each row of `rounded` over the same row of `exact`, means removed; 1 if not positive.

    Without the means a shifted row (a wrong zero point) has the factor of the row as it should be.
    """
    exact = exact - exact.mean(1, keepdim=True)
    gain = (rounded * exact).sum(1) / exact.pow(2).sum(1)
    return torch.where(gain > 0, gain, torch.ones_like(gain))


def _moved_norm(name: str, base: dict[str, nn.Module], quantized: dict[str, nn.Module], rounded: bool) -> bool:
    layer, _, norm = name.rpartition(".")
    if norm not in READERS or (norm == "post_attention_layernorm" and f"{layer}.pre_feedforward_layernorm" in base):
        return False
    if not all(isinstance(base.get(f"{layer}.{reader}"), nn.Linear) for reader in READERS[norm]):
        return False
    gain = norm_gain(quantized[name]) / norm_gain(base[name])
    if torch.allclose(gain, torch.ones_like(gain), rtol=STORED, atol=0):
        return False
    pairs = [(quantized[f"{layer}.{reader}"], base[f"{layer}.{reader}"]) for reader in READERS[norm]]
    return any(_made_up_for(mine, theirs, gain, rounded) for mine, theirs in pairs)


def _made_up_for(mine: nn.Module, theirs: nn.Module, gain: Tensor, rounded: bool) -> bool:
    """Whether the columns of a reader's weights lie nearer to each other in size with the gain moved into them than
    without; over a whole column rounding averages out.
    """
    sizes = _factors(mine, theirs, rounded, columns=True).log()
    return bool((sizes + gain.abs().clamp(min=1e-30).log()).square().sum() < sizes.square().sum())


def _factors(mine: nn.Module, theirs: nn.Module, rounded: bool, columns: bool) -> Tensor:
    """Factor of each row, or column, of `mine` over that of `theirs`; `mine` is the rounded one, or else `theirs`."""
    assert isinstance(mine.weight, Tensor) and isinstance(theirs.weight, Tensor)
    one, other = (weight.T if columns else weight for weight in (mine.weight, theirs.weight))
    return row_gain(one, other) if rounded else 1 / row_gain(other, one)


@torch.no_grad()
def _scale_inputs(linear: nn.Module, gain: Tensor) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight.mul_(gain)


@torch.no_grad()
def _scale_outputs(linear: nn.Module, gain: Tensor) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight.mul_(gain[:, None])
    if linear.bias is not None:
        linear.bias.mul_(gain)
