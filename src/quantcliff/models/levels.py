"""Bits and group size of a quantized model, stated in its configuration or read off its weights.

Quantized weights lie on few, evenly spaced levels per group, and a file that does not say so still shows it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantcliff.models import loading
from quantcliff.models.folders import quantization_of
from quantcliff.models.linears import linears


def grid_of(folder: str | Path) -> dict[str, Any] | None:
    """`quantization_of`, or the same read off the weights of a dense file; None where they lie on no grid."""
    stated = quantization_of(folder)
    if stated:
        return stated
    model = loading.load(folder)
    weights = dict(model.hf.named_parameters())
    matrices = [weights[f"{name}.weight"].detach() for name in linears(model.hf.config)]
    found = [(infer(matrix), matrix.shape[1]) for matrix in matrices]
    grids = [(grid[0], -1 if grid[1] == width else grid[1]) for grid, width in found if grid]
    if not grids:
        return None
    bits, sizes = [grid[0] for grid in grids], [grid[1] for grid in grids]
    return {
        "format": "dense", "method": "unknown", "bits": min(bits), "group_size": max(sizes), "symmetric": False,
        "mixed": len(set(bits)) > 1 or len(grids) < len(found),
    }  # fmt: skip


def infer(stored: Float[Tensor, "out in"]) -> tuple[int, int] | None:
    """(bits, group size) of weights that lie on evenly spaced levels; None where they do not.

    The largest group is taken within which at most 256 levels, all of them whole steps apart, are found.
    """
    width = stored.shape[1]
    for size in [width, *(2**power for power in range(12, 3, -1))]:
        if size > width or width % size:
            continue
        groups = stored.reshape(-1, size)
        spans = [_levels(group) for group in groups[:: max(1, len(groups) // 64)]]
        if spans and np.mean([span is not None for span in spans]) >= 0.9:
            return max(1, int(np.ceil(np.log2(max(span for span in spans if span))))), size
    return None


def _levels(group: Tensor) -> int | None:
    """Levels between the lowest and the highest value, both counted, if all values are whole steps apart."""
    gaps = torch.unique(group).diff()
    if not len(gaps):
        return 1
    steps = gaps / gaps.min()
    count = int(steps.round().sum()) + 1
    return count if count <= 256 and bool(((steps - steps.round()).abs() < 0.1).all()) else None
