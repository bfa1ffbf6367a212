"""Which columns of quantized weights share their scales, where they do not stand together.

GPTQ with act-order quantizes columns in the order of their inputs' size and makes groups in that order. In a dense file
only the numbers are left. Within a group every two columns of a row are whole numbers of the same step, so that their
ratio is one of two small whole numbers; across groups it is any number.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST = 15
"""Whole numbers up to which ratios are looked for: 4 bits. With more bits any ratio is near one."""

NEAR = 2e-4
"""How near a ratio must be: single precision gives 1e-5, and chance hits one of the candidates in 1 of 100 rows."""

ROWS = 128
"""Rows that are looked at: at 2 bits half of the weights are 0, which is a multiple of any step."""


def column_order(stored: Float[Tensor, "out in"]) -> tuple[Int[Tensor, " in"], int] | None:
    """Columns sorted by group, and the size of a group; None where columns do not fall into equal groups."""
    rows = stored[:: max(1, len(stored) // ROWS)][:ROWS].double()
    left = torch.arange(stored.shape[1])
    groups = []
    while len(left):
        pivot = rows[:, left[:1]]
        use = pivot[:, 0] != 0
        if not use.any():
            return None
        ratio = rows[use][:, left] / pivot[use]
        multiples = ratio[..., None] * torch.arange(1, LARGEST + 1)
        whole = ((multiples - multiples.round()).abs() < NEAR).any(-1)
        same = whole.double().mean(0) > 0.99
        groups.append(left[same])
        left = left[~same]
        if len(groups) > 1 and len(groups[-1]) != len(groups[0]):
            return None
    return (torch.cat(groups), len(groups[0])) if len(groups) > 1 and len(groups[0]) >= 8 else None
