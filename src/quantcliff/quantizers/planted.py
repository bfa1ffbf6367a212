"""Format bugs planted on purpose, to see whether the check finds them.

Each makes a copy of a compressed-tensors checkpoint (as `quantize` writes it) and changes a few stored numbers. The
copy loads without complaint.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from jaxtyping import Int8
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.models import quantization_of

Tensors = dict[str, Tensor]


def scaled(source: Path, out: Path, layer: int, factor: float = 4.0) -> Path:
    """All scales of one decoder layer times `factor`, as if they had been read in the wrong units."""

    def edit(tensors: Tensors, bits: int) -> None:
        for name in _names(tensors, layer):
            tensors[f"{name}.weight_scale"] *= factor

    return _copy(source, out, edit)


def swapped(source: Path, out: Path, layer: int, module: str, one: tuple[int, int], other: tuple[int, int]) -> Path:
    """Two groups of one module, each given as (row, group), in each other's place, with scales and zero points."""

    def edit(tensors: Tensors, bits: int) -> None:
        name = _name(tensors, layer, module)
        shape = torch.Size(tensors[f"{name}.weight_shape"].tolist())
        scale = tensors[f"{name}.weight_scale"]
        codes = unpack_from_int32(tensors[f"{name}.weight_packed"], bits, shape)
        blocks = codes.reshape(shape[0], scale.shape[1], -1)
        held = [blocks, scale]
        if f"{name}.weight_zero_point" in tensors:
            held.append(_zero_points(tensors, name, bits))
        for part in held:
            part[one], part[other] = part[other].clone(), part[one].clone()
        tensors[f"{name}.weight_packed"] = pack_to_int32(blocks.reshape(shape), bits)
        if len(held) > 2:
            tensors[f"{name}.weight_zero_point"] = pack_to_int32(held[2], bits, packed_dim=0).contiguous()

    return _copy(source, out, edit)


def moved(source: Path, out: Path, layer: int, module: str, rows: slice = slice(None)) -> Path:
    """Zero points of these rows of one module one too high (one too low where they are the highest already).

    Raises:
        InputError: the checkpoint is symmetric and has no zero points.
    """

    def edit(tensors: Tensors, bits: int) -> None:
        name = _name(tensors, layer, module)
        if f"{name}.weight_zero_point" not in tensors:
            raise InputError(f"{source} has no zero points to move; give an asymmetric checkpoint")
        points, top = _zero_points(tensors, name, bits), 2 ** (bits - 1) - 1
        points[rows] += torch.where(points[rows] < top, 1, -1).to(points.dtype)
        tensors[f"{name}.weight_zero_point"] = pack_to_int32(points, bits, packed_dim=0).contiguous()

    return _copy(source, out, edit)


def _zero_points(tensors: Tensors, name: str, bits: int) -> Int8[Tensor, "row group"]:
    shape = tensors[f"{name}.weight_scale"].shape
    return unpack_from_int32(tensors[f"{name}.weight_zero_point"], bits, shape, packed_dim=0)


def _names(tensors: Tensors, layer: int) -> list[str]:
    scales = [name for name in tensors if re.search(rf"\.{layer}\..*\.weight_scale$", name)]
    found = [name.removesuffix(".weight_scale") for name in scales]
    if not found:
        raise InputError(f"the checkpoint has no quantized layer {layer}")
    return found


def _name(tensors: Tensors, layer: int, module: str) -> str:
    found = [name for name in _names(tensors, layer) if name.endswith(f".{layer}.{module}")]
    if not found:
        raise InputError(f"layer {layer} has no quantized module {module}")
    return found[0]


def _copy(source: Path, out: Path, edit: Callable[[Tensors, int], None]) -> Path:
    stated = quantization_of(source)
    if not stated or stated["format"] != "compressed-tensors" or stated["mixed"]:
        raise InputError(f"{source} is no compressed-tensors checkpoint of one bit width")
    shutil.copytree(source, out, dirs_exist_ok=True)
    file = out / "model.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as handle:
        metadata = handle.metadata()
    edit(tensors, stated["bits"])
    save_file(tensors, file, metadata)
    return out
