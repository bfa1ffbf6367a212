"""Format bugs in a packed checkpoint: a few stored numbers are changed, and the copy loads without complaint.

A checkpoint is a compressed-tensors one of one bit width, as `quantize` writes it. Modules are named as in a layer:
`"mlp.up_proj"`, or by their beginning, so that "" is the whole layer and `"mlp"` its FFN.
"""

import re
import shutil
from collections.abc import Callable, Sequence
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
Place = tuple[int, int]
"""A group of a module: (row, group)."""


def scaled(
    source: Path, out: Path, layer: int, factor: float = 4.0, module: str = "", rows: slice = slice(None)
) -> Path:
    """Scales of one decoder layer, or of some rows of one of its modules, times `factor`: read in the wrong units."""

    def edit(tensors: Tensors, bits: int) -> None:
        for name in _names(tensors, layer, module):
            tensors[f"{name}.weight_scale"][rows] *= factor

    return _copy(source, out, edit)


def swapped(source: Path, out: Path, layer: int, module: str, one: Place, other: Place) -> Path:
    """Two groups of one module in each other's place, with scales and zero points."""
    return exchanged(source, out, layer, module, [(one, other)])


def exchanged(source: Path, out: Path, layer: int, module: str, pairs: Sequence[tuple[Place, Place]]) -> Path:
    """`swapped` for several pairs of groups."""

    def change(blocks: Tensor, scale: Tensor, points: Tensor | None) -> None:
        for part in (blocks, scale, *([] if points is None else [points])):
            for one, other in pairs:
                part[one], part[other] = part[other].clone(), part[one].clone()

    return _unpacked(source, out, layer, module, change)


def rows_swapped(source: Path, out: Path, layer: int, module: str, rows: int) -> Path:
    """The first `rows` rows of a module in reverse order, with scales and zero points: output channels mixed up."""

    def change(blocks: Tensor, scale: Tensor, points: Tensor | None) -> None:
        for part in (blocks, scale, *([] if points is None else [points])):
            part[:rows] = part[:rows].flip(0).clone()

    return _unpacked(source, out, layer, module, change)


def scales_reversed(source: Path, out: Path, layer: int, module: str, rows: slice = slice(None)) -> Path:
    """Scales of each of these rows in reverse order of their groups, zero points and weights as they were."""

    def change(blocks: Tensor, scale: Tensor, points: Tensor | None) -> None:
        scale[rows] = scale[rows].flip(1).clone()

    return _unpacked(source, out, layer, module, change)


def group_size_misread(source: Path, out: Path, layers: Sequence[int], module: str = "") -> Path:
    """As read with groups twice as large: every second group has the scale and zero point of the one before it."""

    def change(blocks: Tensor, scale: Tensor, points: Tensor | None) -> None:
        for part in (scale, *([] if points is None else [points])):
            part[:, 1::2] = part[:, 0::2][:, : part[:, 1::2].shape[1]].clone()

    return _each(source, out, layers, module, change)


def nibbles_swapped(source: Path, out: Path, layer: int, module: str, rows: slice = slice(None)) -> Path:
    """Every two neighbours of these rows in each other's place: the two halves of a byte read in the other order."""

    def change(blocks: Tensor, scale: Tensor, points: Tensor | None) -> None:
        shape = blocks[rows].shape
        blocks[rows] = blocks[rows].reshape(-1, 2).flip(1).reshape(shape).clone()

    return _unpacked(source, out, layer, module, change)


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


def of_other_layer(source: Path, out: Path, layer: int, other: int, module: str = "") -> Path:
    """Modules of a layer replaced by those of another one."""

    def edit(tensors: Tensors, bits: int) -> None:
        for name in _names(tensors, layer, module):
            twin = name.replace(f".{layer}.", f".{other}.", 1)
            for key in [key for key in tensors if key.startswith(f"{name}.weight")]:
                tensors[key] = tensors[key.replace(name, twin, 1)].clone()

    return _copy(source, out, edit)


def changed(source: Path, out: Path, pattern: str, change: Callable[[Tensor], Tensor]) -> Path:
    """Tensors that are stored as they are (norms, biases, embeddings, head) replaced by `change` of them.

    Args:
        pattern: a regular expression for their names.

    Raises:
        InputError: no tensor has such a name.
    """

    def edit(tensors: Tensors, bits: int) -> None:
        found = [name for name in tensors if re.search(pattern, name)]
        if not found:
            raise InputError(f"{source} has no tensor named {pattern}")
        for name in found:
            tensors[name] = change(tensors[name]).to(tensors[name].dtype).contiguous()

    return _copy(source, out, edit)


Change = Callable[[Tensor, Tensor, Tensor | None], None]
"""Changes codes (row, group, size), scales (row, group) and zero points (row, group; None if symmetric) in place."""


def _unpacked(source: Path, out: Path, layer: int, module: str, change: Change) -> Path:
    return _copy(source, out, lambda tensors, bits: _change(tensors, _name(tensors, layer, module), bits, change))


def _each(source: Path, out: Path, layers: Sequence[int], module: str, change: Change) -> Path:
    def edit(tensors: Tensors, bits: int) -> None:
        for layer in layers:
            for name in _names(tensors, layer, module):
                _change(tensors, name, bits, change)

    return _copy(source, out, edit)


def _change(tensors: Tensors, name: str, bits: int, change: Change) -> None:
    shape, scale = torch.Size(tensors[f"{name}.weight_shape"].tolist()), tensors[f"{name}.weight_scale"]
    blocks = unpack_from_int32(tensors[f"{name}.weight_packed"], bits, shape).reshape(shape[0], scale.shape[1], -1)
    points = _zero_points(tensors, name, bits) if f"{name}.weight_zero_point" in tensors else None
    change(blocks, scale, points)
    tensors[f"{name}.weight_packed"] = pack_to_int32(blocks.reshape(shape), bits)
    if points is not None:
        tensors[f"{name}.weight_zero_point"] = pack_to_int32(points, bits, packed_dim=0).contiguous()


def _zero_points(tensors: Tensors, name: str, bits: int) -> Int8[Tensor, "row group"]:
    shape = tensors[f"{name}.weight_scale"].shape
    return unpack_from_int32(tensors[f"{name}.weight_zero_point"], bits, shape, packed_dim=0)


def _names(tensors: Tensors, layer: int, module: str = "") -> list[str]:
    scales = [name for name in tensors if re.search(rf"\.{layer}\..*\.weight_scale$", name)]
    found = [name.removesuffix(".weight_scale") for name in scales]
    if not found:
        raise InputError(f"the checkpoint has no quantized layer {layer}")
    chosen = [name for name in found if name.split(f".{layer}.", 1)[1].startswith(module)]
    if not chosen:
        raise InputError(f"layer {layer} has no quantized module {module}")
    return chosen


def _name(tensors: Tensors, layer: int, module: str) -> str:
    return _names(tensors, layer, module)[0]


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
