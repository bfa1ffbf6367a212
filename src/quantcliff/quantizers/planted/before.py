"""Bugs made before or beside quantization: in the full-precision weights that are then quantized, or in config.json."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.models import config_of, layer_of, linears


def setting(source: Path, out: Path, name: str, factor: float) -> Path:
    """A number in config.json times `factor`; `name` may be nested, as in "rope_parameters.rope_theta".

    Raises:
        InputError: there is no such number.
    """
    shutil.copytree(source, out, dirs_exist_ok=True)
    file = out / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    *path, last = name.split(".")
    inner = config
    for part in path:
        inner = inner.get(part, {})
    if not isinstance(inner.get(last), int | float):
        raise InputError(f"{file} states no number {name}")
    inner[last] = inner[last] * factor
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return out


def half_smoothed(base: Path, out: Path, layer: int, spread: float, seed: int = 0) -> Path:
    """The norm in front of a layer's FFN divided by factors that `gate_proj` takes back and `up_proj` does not.

    Args:
        spread: standard deviation of the factors' logarithm.
    """
    prefix = f"model.layers.{layer}."

    def edit(tensors: dict[str, Tensor]) -> None:
        norm = tensors[f"{prefix}post_attention_layernorm.weight"]
        draw = torch.randn(len(norm), generator=torch.Generator().manual_seed(seed))
        factors = torch.exp(spread * draw).to(norm.dtype)
        norm /= factors
        tensors[f"{prefix}mlp.gate_proj.weight"] *= factors

    return _dense(base, out, edit)


def transposed(base: Path, out: Path, layers: Sequence[int], modules: Sequence[str]) -> Path:
    """Square matrices of these layers transposed.

    Raises:
        InputError: one of them is not square.
    """
    shapes = linears(config_of(base))
    names = [name for name in shapes if layer_of(name) in layers and name.endswith(tuple(modules))]
    for name in names:
        if len(set(shapes[name])) > 1:
            raise InputError(f"{name} is not square, so transposed it cannot be loaded")

    def edit(tensors: dict[str, Tensor]) -> None:
        for name in names:
            tensors[f"{name}.weight"] = tensors[f"{name}.weight"].T.contiguous()

    return _dense(base, out, edit)


def finetuned(base: Path, out: Path, share: float, rank: int = 4, seed: int = 0) -> Path:
    """Every linear layer changed by a random matrix of low rank, `share` of its norm: as with an adapter merged in."""
    draw = torch.Generator().manual_seed(seed)

    def edit(tensors: dict[str, Tensor]) -> None:
        for name, (rows, columns) in linears(config_of(base)).items():
            weight = tensors[f"{name}.weight"]
            change = torch.randn(rows, rank, generator=draw) @ torch.randn(rank, columns, generator=draw)
            weight += (change * (share * weight.norm() / change.norm())).to(weight.dtype)

    return _dense(base, out, edit)


def _dense(base: Path, out: Path, edit: Callable[[dict[str, Tensor]], None]) -> Path:
    shutil.copytree(base, out, dirs_exist_ok=True)
    file = out / "model.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as handle:
        metadata = handle.metadata()
    edit(tensors)
    save_file(tensors, file, metadata)
    return out
