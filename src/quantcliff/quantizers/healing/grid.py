"""An asymmetric uniform grid whose scales, zero points and weights are trained, rounding passed straight through.

A group of weights w with scale s and zero point z is stored as codes and read back:

    q = clamp(round(w / s) + round(z), 0, 2^bits - 1)        w^ = (q - round(z)) s

Rounding has no slope; here it is given that of the identity (straight-through, as in EfficientQAT, arXiv 2407.11062).
The clamp of q keeps its own slope, 0 outside: such a weight is moved by its scale and zero point alone. What is trained
is relative to the scale that a group starts from (weights in steps, scales as a factor), so that one learning rate fits
all groups of all models; this is *chosen*, the paper trains the numbers themselves.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

HALF = 0.499
"""Half a step, less what arithmetic could round the other way: a weight this near to its code lies in its cell."""

LEAST = 0.05
"""Least factor of a scale; below it the gradient passes straight through."""


@dataclass(frozen=True, eq=False)
class Codes:
    """A stored matrix.

    Attributes:
        codes: 0 to 2^bits - 1.
        scale: one number a group, in the type that the file holds.
        zero: code that stands for 0; for a symmetric file 2^(bits - 1) everywhere, which it does not store.
        symmetric: the file stores no zero points.
    """

    codes: UInt8[Tensor, "out columns"]
    scale: Float[Tensor, "out groups"]
    zero: UInt8[Tensor, "out groups"]
    bits: int
    symmetric: bool

    @property
    def weight(self) -> Float[Tensor, "out columns"]:
        """(q - z) s, computed in the type of the scales as compressed-tensors does, in float32."""
        steps = self.groups.to(self.scale.dtype) - self.zero[..., None].to(self.scale.dtype)
        return (steps * self.scale[..., None]).flatten(1).float()

    @property
    def groups(self) -> Int[Tensor, "out groups size"]:
        return self.codes.unflatten(1, (self.scale.shape[1], -1)).int()

    def to(self, device: torch.device) -> "Codes":
        """The same on another device."""
        return replace(self, codes=self.codes.to(device), scale=self.scale.to(device), zero=self.zero.to(device))


class Grid(nn.Module):
    """The trainable form of `Codes`; as it is made, it stands for exactly the codes it was made of.

    Args:
        exact: full-precision weights. Each starts where it is, or on its code if it lies in another code's cell: GPTQ
            does not round to nearest, and what it chose would be lost at the first nudge if it started at the border.
        scales_only: codes stay as they are; only scales are trained.
    """

    def __init__(self, stored: Codes, exact: Float[Tensor, "out columns"], scales_only: bool = False):
        super().__init__()
        self.stored, self.top, self.scales_only = stored, 2**stored.bits - 1, scales_only
        start, codes, zero = stored.scale.float(), stored.groups.float(), stored.zero.float()
        place = exact.unflatten(1, (start.shape[1], -1)) / start[..., None] + zero[..., None]
        low, high = codes - HALF, codes + HALF
        own = ((place > low) | (codes == 0)) & ((place < high) | (codes == self.top))
        self.start: Tensor
        self.register_buffer("start", start)
        self.factor = nn.Parameter(torch.ones_like(start))
        self.zero = nn.Parameter(zero, requires_grad=not (stored.symmetric or scales_only))
        self.steps = nn.Parameter(torch.where(own, place, codes) - zero[..., None], requires_grad=not scales_only)

    def forward(self) -> Float[Tensor, "out columns"]:
        """w^, with gradients."""
        factor, zero = self._grid()
        if self.scales_only:
            steps = (self.stored.groups - self.stored.zero[..., None].int()).float()
        else:
            place = self.steps / factor[..., None]
            code = (straight(place, place.round()) + zero[..., None]).clamp(0, self.top)
            steps = code - zero[..., None]
        return (steps * (self.start * factor)[..., None]).flatten(1)

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Factor of each scale, and zero point, rounded."""
        factor = straight(self.factor, self.factor.clamp(min=LEAST))
        return factor, straight(self.zero, self.zero.round().clamp(0, self.top))

    @torch.no_grad()
    def frozen(self) -> Codes:
        """What it comes to on the file's grid: whole zero points, scales in the file's type."""
        old = self.stored
        factor, zero = self.factor.clamp(min=LEAST), self.zero.round().clamp(0, self.top)
        scale = (self.start * factor).to(old.scale.dtype)
        if self.scales_only:
            return Codes(old.codes, scale, old.zero, old.bits, old.symmetric)
        codes = ((self.steps / factor[..., None]).round() + zero[..., None]).clamp(0, self.top)
        return Codes(codes.flatten(1).to(torch.uint8), scale, zero.to(torch.uint8), old.bits, old.symmetric)


def straight(value: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the slope of `value`."""
    return value + (rounded - value).detach()
