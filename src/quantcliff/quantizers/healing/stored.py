"""The matrices of a compressed-tensors checkpoint as codes, scales and zero points; and the file with others in it."""

import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.models import folder_of, quantization_of, stated_of
from quantcliff.quantizers.healing.grid import Codes

PACKED = ".weight_packed"


def check(source: str | Path) -> None:
    """Raises InputError where a checkpoint holds no grid that can be trained and written back."""
    folder = folder_of(source)
    stated, found = stated_of(folder), quantization_of(folder)
    if found is None:
        raise InputError(f"{source} is not quantized; give the folder of a quantized model")
    if found["format"] != "compressed-tensors" or stated.get("format") != "pack-quantized":
        kind = found["format"] if found["format"] != "compressed-tensors" else stated.get("format")
        raise InputError(f"{source} is stored as {kind}; only packed compressed-tensors checkpoints can be healed")
    groups = stated.get("config_groups", {}).values()
    if any(group.get("input_activations") or group.get("output_activations") for group in groups):
        raise InputError(f"{source} quantizes activations as well; only weights can be healed")
    if found.get("ordered"):
        raise InputError(f"{source} orders the columns of its groups; quantize it without act-order")


def read(source: str | Path) -> dict[str, Codes]:
    """All packed matrices of a checkpoint by full module name."""
    folder = folder_of(source)
    groups = stated_of(folder)["config_groups"].values()
    widths = sorted({group["weights"]["num_bits"] for group in groups if group.get("weights")})
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            for key in sorted(handle.keys()):
                if key.endswith(PACKED):
                    name = key.removesuffix(PACKED)
                    parts = ("packed", "scale", "shape", "zero_point")
                    held = {part: f"{name}.weight_{part}" for part in parts}
                    there = set(handle.keys())
                    found[name] = _codes({p: handle.get_tensor(k) for p, k in held.items() if k in there}, widths)
    return found


def _codes(tensors: Mapping[str, Tensor], widths: list[int]) -> Codes:
    rows, columns = tensors["shape"].tolist()
    words, scale = tensors["packed"], tensors["scale"]
    bits = next(width for width in widths if math.ceil(columns * width / 32) == words.shape[1])
    half = 2 ** (bits - 1)
    codes = unpack_from_int32(words, bits, torch.Size((rows, columns)))
    zero = torch.zeros(scale.shape, dtype=torch.int8)
    if "zero_point" in tensors:
        zero = tensors["zero_point"]
        if zero.dtype == torch.int32:
            zero = unpack_from_int32(zero, bits, scale.shape, packed_dim=0)
    unsigned = [(part.to(torch.int16) + half).to(torch.uint8) for part in (codes, zero)]
    return Codes(unsigned[0], scale, unsigned[1], bits, "zero_point" not in tensors)


def write(source: str | Path, made: Mapping[str, Codes], out: Path) -> None:
    """A copy of the checkpoint with these matrices in place of its own: same files, same tensors, same types."""
    folder = folder_of(source)
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors"))
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        with safe_open(file, "pt") as handle:
            metadata = handle.metadata()
        for name, new in made.items():
            if name + PACKED in tensors:
                for part, tensor in _packed(new, tensors.get(f"{name}.weight_zero_point")).items():
                    tensors[f"{name}.weight_{part}"] = tensor
        save_file(tensors, out / file.name, metadata)


def _packed(new: Codes, old_zero: Tensor | None) -> dict[str, Tensor]:
    half = 2 ** (new.bits - 1)
    codes, zero = ((part.to(torch.int16).cpu() - half).to(torch.int8) for part in (new.codes, new.zero))
    found = {"packed": pack_to_int32(codes, new.bits).contiguous(), "scale": new.scale.cpu().contiguous()}
    if old_zero is not None:
        packed = old_zero.dtype == torch.int32
        found["zero_point"] = pack_to_int32(zero, new.bits, packed_dim=0).contiguous() if packed else zero
    return found


def local(name: str) -> str:
    """`"model.layers.3.mlp.up_proj"` -> `"mlp.up_proj"`"""
    return re.split(r"\.\d+\.", name, maxsplit=1)[1]
