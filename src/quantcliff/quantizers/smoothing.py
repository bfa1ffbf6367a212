"""Take AWQ's rescaling out of a quantized model again, so that its weights can be laid beside the base's.

AWQ (arXiv 2306.00978) divides the output channels of a norm (or of a linear layer such as `up_proj`) by scales s and
multiplies the matching input channels of the layers that read it by s, before it rounds. The function stays, the
numbers do not: a weight, an activated neuron or a normed input of such a model means something else than in the base.
Here the scales are moved back, which again changes no output; what is left of the difference is rounding.
"""

import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantcliff.models import Model
from quantcliff.quantizers.links import Link, links

STORED = 2**-7
"""Relative difference of a norm that storing it in bfloat16 explains, and no smoothing."""

ALONE = 0.5
"""Where no norm was rescaled, factors between two linear layers are only believed if they leave at most this share of
the squared logarithms of a reader's column sizes: *chosen*; chance makes that sum larger, and AWQ's factors explain
nearly all of it."""

Modules = dict[str, nn.Module]


def unsmoothed(base: Model, quantized: Model, rounded: bool = True) -> Model:
    """The same function as `quantized`, with the norms of `base` and its weights in the base's units.

    What reads what is tried out on the exact model (`links`), so that no module's name matters. Exact for scales that a
    norm carries. Scales between two linear layers are estimated from the rounded weights; a wrong estimate shifts units
    between the two and still leaves the function as it was. AWQ may rescale only those in a layer; scales that bring
    the second of two layers no nearer to the base are none. A model that nothing was moved in (GPTQ, round-to-nearest)
    comes back as it is, the same object. A norm that differs while none of its readers makes up for it was not
    smoothed, and stays as it is.

    Args:
        rounded: `quantized` holds the rounded weights. False: `base` does, and what comes back is the exact model in
            the units of the rounded one. Factors between the two are estimated over the exact weights, since noise in
            what one divides by makes them too small.
    """
    mine, theirs = dict(quantized.hf.named_modules()), dict(base.hf.named_modules())
    found = links((base if rounded else quantized).hf)
    between = [link for link in found if isinstance(theirs[link.first], nn.Linear)]
    moved = [link for link in found if link not in between and _moved_norm(link, mine, theirs, rounded)]
    if not moved and not any(_moved_rows(link, mine, theirs, rounded, alone=True) is not None for link in between):
        return quantized
    hf = copy.deepcopy(quantized.hf)
    mine = dict(hf.named_modules())
    for link in moved:
        carried = _gain(link, mine, theirs)
        for reader in link.readers:
            _scale_inputs(mine[reader], carried)
        _take_norm(mine[link.first], theirs[link.first], carried)
    for link in between:
        if (factor := _moved_rows(link, mine, theirs, rounded, alone=not moved)) is not None:
            _scale_outputs(mine[link.first], 1 / factor, link.n)
            for reader in link.readers:
                _scale_inputs(mine[reader], factor)
    return replace(quantized, hf=hf)


def norm_gain(norm: nn.Module) -> Float[Tensor, " d_model"]:
    """Factor on each channel, whatever the norm's convention (weight, 1 + weight; mean taken off, bias added): what
    turning over a row of alternating 1 and -1 changes.
    """
    assert isinstance(norm.weight, Tensor)
    with torch.no_grad():
        row = torch.ones_like(norm.weight)
        row[1::2] = -1
        return (norm(row[None])[0] - norm(-row[None])[0]) / 2 * row


def row_gain(rounded: Float[Tensor, "out in"], exact: Float[Tensor, "out in"]) -> Float[Tensor, " out"]:
    """Least-squares factor of each row of `rounded` over the same row of `exact`, means removed; 1 if not positive.

    Without the means a shifted row (a wrong zero point) has the factor of the row as it should be.
    """
    exact = exact - exact.mean(1, keepdim=True)
    gain = (rounded * exact).sum(1) / exact.pow(2).sum(1)
    return torch.where(gain > 0, gain, torch.ones_like(gain))


def _gain(link: Link, mine: Modules, theirs: Modules) -> Tensor:
    """Factor of each channel of a norm over the base's; 1 where the base's is 0."""
    own, base = norm_gain(mine[link.first]), norm_gain(theirs[link.first])
    return torch.where(base == 0, 1.0, own / base)


def _moved_norm(link: Link, mine: Modules, theirs: Modules, rounded: bool) -> bool:
    """Whether a norm was rescaled: it differs, and a reader makes up for it."""
    gain = _gain(link, mine, theirs)
    if torch.allclose(gain, torch.ones_like(gain), rtol=STORED, atol=0):
        return False
    pairs = [(mine[reader], theirs[reader], gain, rounded) for reader in link.readers]
    return any(_made_up_for(*pair) or _made_up_for(*pair, alone=True) for pair in pairs)


def _moved_rows(link: Link, mine: Modules, theirs: Modules, rounded: bool, alone: bool) -> Tensor | None:
    """Factors of a linear layer's last rows over the base's, if all readers make up for them."""
    gain = _factors(mine[link.first], theirs[link.first], rounded, columns=False)[-link.n :]
    made_up = (_made_up_for(mine[reader], theirs[reader], gain, rounded, alone) for reader in link.readers)
    return _shared(link, mine, theirs, rounded) if all(made_up) else None


def _shared(link: Link, mine: Modules, theirs: Modules, rounded: bool) -> Float[Tensor, " n"]:
    """Factors of a linear layer's last rows, read off these rows and off the columns of its readers, which have the
    inverse. Their logarithms are averaged by what each estimate is worth: a channel that was scaled up for its large
    activations is hard to read off a row of few bits and easy off a column, where it is large beside the rounding.
    """
    rows, worth = _estimates(mine[link.first], theirs[link.first], rounded, columns=False)
    total, weight = (worth * rows.log())[-link.n :], worth[-link.n :]
    for reader in link.readers:
        columns, worth = _estimates(mine[reader], theirs[reader], rounded, columns=True)
        total, weight = total - worth * columns.log(), weight + worth
    return (total / weight).exp()


def _made_up_for(mine: nn.Module, theirs: nn.Module, gain: Tensor, rounded: bool, alone: bool = False) -> bool:
    """Whether the columns of a reader's weights lie nearer to each other in size with the gain moved into them than
    without; over a whole column rounding averages out. `alone`: by how much; a factor that all share is none, and rows
    may have factors of their own (those of `up` in a fused gate and up, which the next layer takes back).
    """
    before = _factors(mine, theirs, rounded, columns=True, alike=alone).log()
    after = before + gain.abs().clamp(min=1e-30).log()
    if alone:
        return bool(after.var(correction=0) < ALONE * before.var(correction=0))
    return bool(after.square().sum() < before.square().sum())


@torch.no_grad()
def _take_norm(mine: nn.Module, theirs: nn.Module, gain: Tensor) -> None:
    """The base's gain for a norm, and its own bias in the units of the base."""
    assert isinstance(mine.weight, Tensor) and isinstance(theirs.weight, Tensor)
    mine.weight.copy_(theirs.weight)
    if isinstance(bias := getattr(mine, "bias", None), Tensor):
        bias.div_(gain)


def _factors(mine: nn.Module, theirs: nn.Module, rounded: bool, columns: bool, alike: bool = False) -> Tensor:
    """Factor of each row, or column, of `mine` over that of `theirs`; `mine` is the rounded one, or else `theirs`.
    `alike`: with all rows brought to the same size first.
    """
    return _estimates(mine, theirs, rounded, columns, alike)[0]


def _estimates(
    mine: nn.Module, theirs: nn.Module, rounded: bool, columns: bool, alike: bool = False
) -> tuple[Tensor, Tensor]:
    """`_factors`, and the inverse variance of their logarithms: squared size over what the fit leaves, by weights."""
    assert isinstance(mine.weight, Tensor) and isinstance(theirs.weight, Tensor)
    both = [nn.functional.normalize(w, dim=1) if alike else w for w in (mine.weight, theirs.weight)]
    one, other = (weight.T if columns else weight for weight in both)
    noisy, exact = (one, other) if rounded else (other, one)
    gain = row_gain(noisy, exact)
    fit = gain[:, None] * exact
    left = (noisy - fit) - (noisy - fit).mean(1, keepdim=True)
    worth = exact.shape[1] * fit.pow(2).sum(1) / left.pow(2).sum(1).clamp(min=1e-30)
    return (gain if rounded else 1 / gain), worth.clamp(min=1e-30)


@torch.no_grad()
def _scale_inputs(linear: nn.Module, gain: Tensor) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight.mul_(gain)


@torch.no_grad()
def _scale_outputs(linear: nn.Module, gain: Tensor, n: int) -> None:
    """Of the last n outputs."""
    assert isinstance(linear, nn.Linear)
    linear.weight[-n:].mul_(gain[:, None])
    if linear.bias is not None:
        linear.bias[-n:].mul_(gain)
