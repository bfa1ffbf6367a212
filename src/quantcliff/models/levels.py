"""Bits and group size of a quantized model, stated in its configuration or read off its weights.

Quantized weights lie on few, evenly spaced levels per group, and a file that does not say so still shows it: exactly
where it holds single precision, up to half a unit of the last place where it holds half precision. Three things hide
the levels. GPTQ may have chosen the order of columns, so that a group's columns do not stand together; then they are
found by their ratios, which within a group are ratios of small whole numbers. The levels may be uneven (NF4, FP8);
then they are named. Or the numbers are too coarse for the grid; then nothing can be said.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.models import loading
from quantcliff.models.columns import column_order
from quantcliff.models.dequantize import check_readable
from quantcliff.models.folders import config_of, folder_of, quantization_of, stated_of
from quantcliff.models.linears import linears
from quantcliff.models.stored import precision_of
from quantcliff.models.uneven import uneven

SURE = 64
"""Levels above and below 0 within which a value stored in bfloat16 still tells its level."""


def grid_of(folder: str | Path) -> dict[str, Any] | None:
    """`quantization_of`, or the same read off the weights of a dense file; None where they lie on no grid.

    A dense file's has `precision` besides: the relative precision of its numbers.

    Raises:
        InputError: the weights take few values that lie on no known levels, the format cannot be read, or the layers of
            the architecture hold no linear layers to look at.
    """
    if not linears(config_of(folder)):
        raise InputError(
            f"{folder}: a {config_of(folder).model_type} model keeps the weights of its layers in modules of another "
            "kind than linear ones, which cannot be looked at; choose one with linear layers"
        )
    if stated := quantization_of(folder):
        if stated["format"] != "gguf":
            check_readable(stated_of(folder), str(folder))
        return stated
    model, precision = loading.load(folder), precision_of(folder_of(folder))
    weights = dict(model.hf.named_parameters())
    matrices = [weights[f"{name}.weight"].detach() for name in linears(model.hf.config)]
    grids = {index: grid for index, matrix in enumerate(matrices) if (grid := infer(matrix, precision))}
    found = {"format": "dense", "method": "unknown", "precision": precision}
    if not grids:
        return _hidden(matrices, folder_of(folder), found)
    sizes = [-1 if size == matrices[index].shape[1] else size for index, (_, size) in grids.items()]
    bits = [grid[0] for grid in grids.values()]
    even = [symmetric(matrices[index], *grid, precision) for index, grid in list(grids.items())[:8]]
    return found | {
        "bits": min(bits), "group_size": max(sizes), "symmetric": all(even),
        "mixed": len(set(bits)) > 1 or len(grids) < len(matrices),
    }  # fmt: skip


def _hidden(matrices: list[Tensor], folder: Path, found: dict[str, Any]) -> dict[str, Any] | None:
    """The grid of weights whose groups do not stand together, or whose levels are uneven."""
    if not matrices:
        return None
    if order := column_order(matrices[0]):
        columns, size = order
        if grid := infer(matrices[0][:, columns]):
            even = symmetric(matrices[0][:, columns], grid[0], size, found["precision"])
            return found | {"bits": grid[0], "group_size": size, "symmetric": even, "mixed": False, "ordered": True}
    if named := uneven(matrices[0]):
        name, bits, size = named
        kind = {"kind": "float"} if name == "fp8" else {}
        return found | {"method": name, "bits": bits, "group_size": size, "symmetric": False, "mixed": False} | kind
    values = np.mean([len(row.unique()) for row in matrices[0][:64]]) / matrices[0].shape[1]
    if values < 0.5:
        raise InputError(
            f"{folder} holds weights that take few values, on uneven levels that are neither those of NF4 nor of FP8; "
            "only evenly spaced ones can be judged"
        )
    return None


def infer(stored: Float[Tensor, "out in"], precision: float = 0.0) -> tuple[int, int] | None:
    """(bits, group size) of weights that lie on evenly spaced levels; None where they do not.

    The largest group is taken within which at most 256 levels, all of them whole steps apart, are found.

    Args:
        precision: largest relative error of the stored numbers, 0 for exact ones.
    """
    width = stored.shape[1]
    for size in [width, *(2**power for power in range(12, 3, -1))]:
        if size > width or width % size:
            continue
        groups = stored.reshape(-1, size)
        steps = [(group, _step(group, precision)) for group in groups[:: max(1, len(groups) // 64)]]
        spans = [_span(group, step) for group, step in steps if step is not None]
        if len(spans) >= (0.5 if precision else 0.9) * len(steps) and spans:
            levels = max(spans) * (1 - 4 * precision)  # the span is not better known than its ends
            return max(1, int(np.ceil(np.log2(levels)))), size
    return None


def lies_on(stored: Float[Tensor, "out in"], bits: int, size: int) -> bool:
    """Whether nine groups of ten of exactly stored weights lie on at most 2^bits evenly spaced levels.

    It is asked where a file names its grids (GGUF). To find the grid would not do: the scales of K-quants are whole
    numbers too, so that the weights of several groups lie on one fine grid.
    """
    if stored.shape[1] % size:
        return False
    groups = stored.reshape(-1, size)
    groups = groups[:: max(1, len(groups) // 64)]
    steps = [(group, _step(group, 0.0)) for group in groups]
    return sum(step is not None and _span(group, step) <= 2**bits for group, step in steps) >= 0.9 * len(steps)


def symmetric(stored: Float[Tensor, "out in"], bits: int, size: int, precision: float = 0.0) -> bool:
    """Whether all levels of nearly every group lie between -2^(bits-1) and 2^(bits-1)-1 steps: no zero points."""
    groups = stored.reshape(-1, stored.shape[1] if size == -1 else size)
    half = 2 ** (bits - 1)
    inside = []
    for group in groups[:: max(1, len(groups) // 64)]:
        if step := _step(group, precision):
            inside.append(bool(group.min() / step > -half - 0.5) and bool(group.max() / step < half - 0.5))
    return len(inside) > 0 and float(np.mean(inside)) >= 0.9


def _span(group: Tensor, step: float) -> int:
    """Levels between the lowest and the highest value, both counted."""
    return 1 if step == 0 else int(((group.max() - group.min()) / step).round()) + 1


def _step(group: Tensor, precision: float) -> float | None:
    """Distance of the levels if all values are whole steps apart and span at most 256 levels; 0 for one value."""
    gaps = torch.unique(group).diff()
    if not len(gaps):
        return 0.0
    if precision:
        return _coarse_step(group, precision)
    steps = gaps / gaps.min()
    fits = int(steps.round().sum()) + 1 <= 256 and bool(((steps - steps.round()).abs() < 0.1).all())
    return float(gaps.min()) if fits else None


def _coarse_step(group: Tensor, precision: float) -> float | None:
    """The same of values that are only known to `precision`: the largest step of which those near 0 are multiples."""
    sizes = torch.unique(group.abs().double())
    sizes = sizes[sizes > 1e-3 * sizes.max()]
    for code in range(1, 9):
        near = sizes[sizes < SURE * sizes[0] / code]
        if len(near) < 6:
            continue
        step, products, squares = sizes[0] / code, 0.0, 0.0
        for value in near:  # from one value to the next, larger one the step is known better
            whole = (value / step).round()
            products, squares = products + value * whole, squares + whole**2
            step = products / squares
        codes = near / step
        if bool(((codes - codes.round()).abs() < 2 * precision * codes + 1e-3).all()):
            return float(step) if (group.max() - group.min()) / step < 256 else None
    return None
