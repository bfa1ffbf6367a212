"""GPTQ and AWQ files written by hand, bit by bit, as their papers' code lays them out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from families import wrapped
from safetensors.torch import load_file, save_file

from quantcliff.models import LAYER

GROUP = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight neighbours lies in the first, second, ... four bits of a word."""

Packed = dict[str, torch.Tensor]


def folder_of(name: str, out: Path) -> Path:
    """A small model of a family in a folder."""
    base = wrapped(name)
    base.hf.save_pretrained(out)
    base.tokenizer.save_pretrained(out)
    return out


def repack(folder: Path, stated: dict, pack: Callable[[str, torch.Tensor], Packed | None]) -> None:
    """Hand the weights (out, in) of every matrix in the layers to `pack`, and put what it returns in their place."""
    file = folder / "model.safetensors"
    weights, config = load_file(file), json.loads((folder / "config.json").read_text())
    inside = [key for key, weight in weights.items() if weight.ndim == 2 and LAYER.search(key)]
    for key in [key for key in inside if not key.endswith(".gate.weight")]:  # a router
        matrix = weights[key].T if config["model_type"] == "gpt2" else weights[key]
        if (parts := pack(key, matrix.contiguous())) is not None:
            del weights[key]
            weights |= {f"{key.removesuffix('weight')}{part}": tensor for part, tensor in parts.items()}
    save_file(weights, file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))


def grid(weight: torch.Tensor, bits: int, group_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (out, in), scales and zero points (out, group) of a plain rounding; columns of one number are a group."""
    values, n_groups = weight.numpy().astype(np.float64), group_of.max() + 1
    low = np.stack([values[:, group_of == g].min(1) for g in range(n_groups)], 1)
    high = np.stack([values[:, group_of == g].max(1) for g in range(n_groups)], 1)
    scale = ((high - low) / (2**bits - 1)).astype(np.float16).astype(np.float64)
    zero = np.clip(np.round(-low / scale), 1, 2**bits - 1)  # v1 stores one less, so that 0 is none
    codes = np.clip(np.round(values / scale[:, group_of]) + zero[:, group_of], 0, 2**bits - 1)
    return codes, scale, zero


def stream(values: np.ndarray, bits: int) -> torch.Tensor:
    """Codes (n, other) as one stream of bits along n, lowest first, in words of 32: (n * bits / 32, other)."""
    ones = (values.astype(np.int64)[:, None] >> np.arange(bits)[None, :, None]) & 1
    words = ones.reshape(-1, 32, values.shape[1])
    packed = (words << np.arange(32)[None, :, None]).sum(1)
    return torch.from_numpy(packed.astype(np.uint32).view(np.int32).copy())


def gptq(weight: torch.Tensor, bits: int, group_of: np.ndarray, v1: bool) -> tuple[np.ndarray, Packed]:
    """The numbers (out, in) that a module holds, and its tensors."""
    codes, scale, zero = grid(weight, bits, group_of)
    parts = {
        "qweight": stream(codes.T, bits), "qzeros": stream(zero - v1, bits).T.contiguous(),
        "scales": torch.from_numpy(scale.T.copy()).half(), "g_idx": torch.from_numpy(group_of).int(),
    }  # fmt: skip
    return (codes - zero[:, group_of]) * scale[:, group_of], parts


def awq(weight: torch.Tensor, zero_points: bool = True) -> tuple[np.ndarray, Packed]:
    """The same in AWQ's layout of 4 bits: words along the outputs, eight neighbours in an order of their own."""
    group_of = np.arange(weight.shape[1]) // GROUP
    codes, scale, zero = grid(weight, 4, group_of)
    rows, zeros = (stream(part.reshape(-1, 8)[:, AWQ_ORDER].reshape(-1, 1), 4).reshape(len(part), -1)
                   for part in (np.ascontiguousarray(codes.T), np.ascontiguousarray(zero.T)))  # fmt: skip
    parts = {"qweight": rows, "qzeros": zeros, "scales": torch.from_numpy(scale.T.copy()).half()}
    if not zero_points:
        del parts["qzeros"]
        zero = np.full_like(zero, 8)
    return (codes - zero[:, group_of]) * scale[:, group_of], parts
