"""Names of grids whose levels are not evenly spaced: NF4 (arXiv 2305.14314) and 8-bit floats (arXiv 2209.05433)."""

import torch
from jaxtyping import Float
from torch import Tensor

NF4 = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip
"""The levels of NF4, in units of a block's largest weight."""

NEAR = 2**-7
"""Relative distance from a level that half precision explains."""


def uneven(stored: Float[Tensor, "out in"]) -> tuple[str, int, int] | None:
    """(name, bits, group size) of weights on the levels of NF4 or FP8; None where they lie on neither."""
    width = stored.shape[1]
    for size in (width, 256, 128, 64, 32, 16):
        if size > width or width % size:
            continue
        groups = stored.reshape(-1, size)
        groups = groups[:: max(1, len(groups) // 64)].float()
        unit = groups / groups.abs().amax(1, keepdim=True).clamp(min=1e-30)
        off = (unit[..., None] - NF4).abs().amin(-1)
        if _most(off < NEAR):
            return "nf4", 4, -1 if size == width else size
        scaled = 448 * unit
        eighth = scaled.to(torch.float8_e4m3fn).float()
        if _most((eighth - scaled).abs() <= scaled.abs() * 2**-9 + 1e-4):
            return "fp8", 8, -1 if size == width else size
    return None


def _most(fits: Tensor) -> bool:
    """Whether all values fit in at least nine groups of ten."""
    return bool(fits.all(1).float().mean() >= 0.9)
