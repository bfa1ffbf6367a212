"""Plain rounding to nearest: what every quantized weight is held against."""

import torch
from jaxtyping import Float
from torch import Tensor


def nearest(
    exact: Float[Tensor, "group size"], bits: int, symmetric: bool
) -> tuple[Float[Tensor, "group size"], Float[Tensor, " group"]]:
    """Each group rounded to nearest on a grid of 2^bits levels over its range (0 included), and the grid's step."""
    low, high = exact.amin(1, True).clamp(max=0), exact.amax(1, True).clamp(min=0)
    top = 2**bits - 1
    if symmetric:
        low, high = -torch.maximum(-low, high), torch.maximum(-low, high)
    step = ((high - low) / top).clamp(min=1e-30)
    zero = torch.full_like(step, 2 ** (bits - 1)) if symmetric else (-low / step).round()
    return ((exact / step + zero).round().clamp(0, top) - zero) * step, step[:, 0]
