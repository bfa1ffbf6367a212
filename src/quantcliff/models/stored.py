"""Whether a checkpoint's files are what they claim to be, read off their headers before anything is loaded.

A file may be a Git LFS pointer, or its tensors may contradict the configuration: transformers then fails in ways that
name no cause, or loads other weights than were meant.
"""

import json
import re
import struct
from pathlib import Path
from typing import Any

from quantcliff.errors import InputError

POINTER = b"version https://git-lfs"

Shape = tuple[int, ...]


def check_pointers(folder: Path) -> None:
    """Raises InputError where a file of the checkpoint is a Git LFS pointer."""
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*.model")]):
        with file.open("rb") as handle:
            start = handle.read(len(POINTER))
        if start == POINTER:
            raise InputError(f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder")


PRECISION = {"BF16": 2**-9, "F16": 2**-12}
"""Largest relative error of a number stored in these types; single precision counts as exact."""


def precision_of(folder: Path) -> float:
    """The coarsest `PRECISION` of the folder's tensors, 0.0 where all are in single precision."""
    return max((PRECISION.get(entry["dtype"], 0.0) for entry in _entries(folder).values()), default=0.0)


def shapes_of(folder: Path) -> dict[str, Shape]:
    """Shape of every tensor in the safetensors files, by name; files that cannot be read are left out."""
    return {name: tuple(entry["shape"]) for name, entry in _entries(folder).items()}


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as handle:
                (size,) = struct.unpack("<Q", handle.read(8))
                header = json.loads(handle.read(size))
        except (struct.error, ValueError, MemoryError, OverflowError):
            continue
        found |= {name: entry for name, entry in header.items() if name != "__metadata__"}
    return found


def check_stated(folder: Path, quantization: dict[str, Any]) -> None:
    """Hold packed compressed-tensors weights against what the configuration states about them.

    Raises:
        InputError: scales, zero points, or the order of columns that the configuration states are missing, or the
            tensors have other sizes than its bits and group size give.
    """
    if quantization.get("quant_method") != "compressed-tensors" or quantization.get("format") != "pack-quantized":
        return
    shapes = shapes_of(folder)
    groups = [group for group in quantization.get("config_groups", {}).values() if group.get("weights")]
    for key in (key for key in shapes if key.endswith(".weight_packed")):
        name = key.removesuffix(".weight_packed")
        if f"{name}.weight_scale" not in shapes:
            raise InputError(f"{folder}: {name} has packed weights and no weight_scale; quantize the model again")
        stated = [group["weights"] for group in groups if _targets(group, name)] or [g["weights"] for g in groups]
        wrong = [_contradiction(name, scheme, shapes) for scheme in stated]
        if wrong and all(wrong):
            raise InputError(f"{folder} contradicts its own config.json: {wrong[0]}; correct it, or quantize again")


def _targets(group: dict[str, Any], name: str) -> bool:
    return any(
        re.match(target.removeprefix("re:"), name) if target.startswith("re:") else target == name
        for target in group.get("targets", [])
    )


def _contradiction(name: str, scheme: dict[str, Any], shapes: dict[str, Shape]) -> str:
    """What a module's tensors say against its scheme; "" where nothing."""
    scale, packed = shapes[f"{name}.weight_scale"], shapes[f"{name}.weight_packed"]
    bits, size = scheme.get("num_bits", 4), scheme.get("group_size")
    if bits and 32 % bits == 0:
        columns, asked = packed[1] * (32 // bits), f"{bits} bits"
        if size and size > 0 and len(scale) == 2 and scale[1] * size != columns:
            return (
                f"{name} has {scale[1]} scales a row, and {asked} in groups of {size} for {packed[1]} packed numbers "
                f"a row need {columns / size:g}"
            )
    if scheme.get("actorder") == "group" and size and size > 0 and f"{name}.weight_g_idx" not in shapes:
        return f'actorder is "group", and {name} has no weight_g_idx to say which column belongs to which group'
    if not scheme.get("symmetric", True) and f"{name}.weight_zero_point" not in shapes:
        return f"it is asymmetric, and {name} has no weight_zero_point"
    return ""
