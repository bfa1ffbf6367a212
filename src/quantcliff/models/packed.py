"""GPTQ and AWQ checkpoints, read off their bytes: whole numbers packed into words of 32 bits, scales and zero points.

Each module's own tensors tell its bits and the size of its groups, so that modules which differ from the rest
(GPTQModel's `dynamic`), or were left alone, are read like all others. The layouts are those of AutoGPTQ, GPTQModel and
AutoAWQ; these libraries themselves want other versions of what the book needs.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from quantcliff.errors import InputError

LAYOUTS = {"gptq": ("checkpoint_format", "gptq", ("gptq", "gptq_v2")), "awq": ("version", "gemm", ("gemm",))}
"""Format -> the setting that names how numbers are packed, what it is where it is not stated, what can be read."""

PARTS = ("qweight", "qzeros", "scales", "g_idx")


def check(stated: dict[str, Any], name: str) -> None:
    """Raises InputError where numbers are packed in a way that is not read here, or AWQ's have not 4 bits."""
    setting, default, known = LAYOUTS[stated["quant_method"]]
    method, layout = str(stated["quant_method"]).upper(), str(stated.get(setting) or default).lower()
    if layout not in known:
        raise InputError(
            f"{name} packs its {method} weights as {layout!r}; only {' and '.join(known)} can be read, save it so"
        )
    if method == "AWQ" and stated.get("bits", 4) != 4:
        raise InputError(f"{name} holds AWQ weights of {stated['bits']} bits; only 4 can be read")


@torch.no_grad()
def weights(folder: Path, stated: dict[str, Any], sideways: Collection[str] = ()) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, packed modules as plain float32 weights.

    Args:
        stated: its `quantization_config`, checked.
        sideways: names of modules whose weights are to be (in, out): those that are a Conv1D.

    Raises:
        InputError: the tensors of a module do not fit each other.
    """
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            found |= {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118  a handle is no dictionary
    unpack = _gptq if stated["quant_method"] == "gptq" else _awq
    for name in [key.removesuffix(".qweight") for key in found if key.endswith(".qweight")]:
        parts = {part: found.pop(f"{name}.{part}") for part in PARTS if f"{name}.{part}" in found}
        try:
            weight = unpack(parts, stated)
        except (KeyError, IndexError, RuntimeError, ZeroDivisionError) as error:
            raise InputError(f"{folder}: the packed tensors of {name} do not fit each other; fetch it again") from error
        turned = any(one == name or one.endswith(f".{name}") for one in sideways)
        found[f"{name}.weight"] = weight if turned else weight.T.contiguous()
    return found


def _gptq(parts: dict[str, Tensor], stated: dict[str, Any]) -> Float[Tensor, "in out"]:
    scales = parts["scales"].float()
    bits = 32 * parts["qzeros"].shape[1] // scales.shape[1]
    codes, zeros = unpacked(parts["qweight"], bits), unpacked(parts["qzeros"].T.contiguous(), bits).T
    if stated.get("checkpoint_format", "gptq") == "gptq":
        zeros = zeros + 1  # the first layout stores one less
    group_of = parts.get("g_idx", torch.arange(len(codes)) // -(-len(codes) // len(scales))).long()
    return (codes - zeros[group_of]) * scales[group_of]


def _awq(parts: dict[str, Tensor], stated: dict[str, Any]) -> Float[Tensor, "in out"]:
    scales = parts["scales"].float()
    packed = AutoAWQConverter.unpack_awq(parts["qweight"], parts.get("qzeros"), 4)
    codes, zeros = AutoAWQConverter.reverse_awq_order(*packed, 4)
    size = len(codes) // len(scales)
    zero = torch.full_like(scales, 8) if zeros is None else (zeros & 15).float()
    return ((codes & 15) - zero.repeat_interleave(size, 0)) * scales.repeat_interleave(size, 0)


def unpacked(words: Int[Tensor, "words n"], bits: int) -> Int[Tensor, "number n"]:
    """Whole numbers of so many bits that lie in one stream along the first axis, lowest bits first.

    >>> unpacked(torch.tensor([[0x21]], dtype=torch.int32), 4)[:3, 0].tolist()
    [1, 2, 0]
    """
    width = words.shape[1]
    if 32 % bits == 0:
        shifts = torch.arange(0, 32, bits, dtype=torch.int32)
        return ((words[:, None] >> shifts[:, None]) & (2**bits - 1)).reshape(-1, width)
    ones = ((words[:, None] >> torch.arange(32, dtype=torch.int32)[:, None]) & 1).to(torch.int8)
    places = 2 ** torch.arange(bits, dtype=torch.int32)
    return (ones.reshape(-1, bits, width) * places[:, None]).sum(1, dtype=torch.int32)
