"""Experts of a mixture that lie packed, one by one, in a compressed-tensors file.

transformers keeps all experts of a layer in two stacked parameters and finds no place for packed ones, so it would
leave them as they were initialised. Here they are unpacked and stacked.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from quantcliff.errors import InputError

PARTS = {"gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down"}
"""What checkpoints call the matrices of an expert."""

PACKED = re.compile(r"\.(\d+)\.[^.]+\.experts\.(\d+)\.(\w+)\.weight_packed$")
"""Layer, expert and matrix of a packed tensor's name."""


@torch.no_grad()
def fill(hf: PreTrainedModel, folder: Path, missing: Iterable[str], stated: dict[str, Any]) -> list[str]:
    """Put the packed experts of a folder into the stacked parameters that are missing; what is missing still.

    Raises:
        InputError: an expert is not there whole, or has another shape than its stack.
    """
    wanted = [name for name in missing if re.search(r"\.experts\.(gate_up|down)_proj$", name)]
    found = _packed(folder, stated) if wanted else {}
    if not found:
        return list(missing)
    parameters = dict(hf.named_parameters())
    for name in wanted:
        stack, layer = parameters[name], int(re.findall(r"\.(\d+)\.", name)[0])
        parts = ("down",) if name.endswith("down_proj") else ("gate", "up")
        for number in range(len(stack)):
            matrices = [found.get((layer, number, part)) for part in parts]
            if any(matrix is None for matrix in matrices):
                raise InputError(
                    f"{folder} lacks weights of expert {number} in layer {layer}; quantize the model again"
                )
            whole = torch.cat([matrix for matrix in matrices if matrix is not None])
            if whole.shape != stack[number].shape:
                raise InputError(
                    f"{folder}: expert {number} of layer {layer} has shape {tuple(whole.shape)}, its model wants "
                    f"{tuple(stack[number].shape)}; quantize the model again"
                )
            stack[number] = whole.to(stack.dtype)
    return [name for name in missing if name not in wanted]


def _packed(folder: Path, stated: dict[str, Any]) -> dict[tuple[int, int, str], Tensor]:
    """Dequantized matrices by layer, expert and part."""
    schemes = [group["weights"] for group in stated.get("config_groups", {}).values() if group.get("weights")]
    widths = {scheme["num_bits"] for scheme in schemes}
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            for key in handle.keys():  # noqa: SIM118  a handle is no dictionary
                if (place := PACKED.search(key)) and place[3] in PARTS:
                    name = key.removesuffix("_packed")
                    shape = torch.Size(handle.get_tensor(f"{name}_shape").tolist())
                    scale = handle.get_tensor(f"{name}_scale").float()
                    words = handle.get_tensor(key)
                    bits = next(width for width in widths if -(-shape[1] // (32 // width)) == words.shape[1])
                    codes = unpack_from_int32(words, bits, shape).float()
                    zero = torch.zeros_like(scale)
                    if f"{name}_zero_point" in handle.keys():  # noqa: SIM118
                        packed = handle.get_tensor(f"{name}_zero_point")
                        zero = unpack_from_int32(packed, bits, scale.shape, packed_dim=0).float()
                    groups = codes.reshape(*scale.shape, -1)
                    matrix = ((groups - zero[..., None]) * scale[..., None]).reshape(shape)
                    found[int(place[1]), int(place[2]), PARTS[place[3]]] = matrix
    return found
