"""The linear layers inside a decoder's layers, and how they are named; nothing is loaded to tell."""

import functools
import json
import re

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

LAYER = re.compile(r"\.(\d+)\.")
"""Finds the number of the layer in a module's full name."""


def layer_of(name: str) -> int:
    """`"model.layers.3.mlp.up_proj"` -> 3"""
    found = LAYER.search(name)
    assert found, name
    return int(found[1])


def linears(config: PretrainedConfig) -> dict[str, tuple[int, int]]:
    """(rows, columns) of every linear layer inside a decoder layer, by full module name; a row yields one output."""
    return {name: size for name, size in every_linear(config).items() if LAYER.search(name)}


def every_linear(config: PretrainedConfig) -> dict[str, tuple[int, int]]:
    """The same of all linear layers of the model, its head included."""
    return dict(_looked_at(type(config), config.to_json_string(use_diff=False))[0])  # type: ignore[arg-type]


def has_stacked_experts(config: PretrainedConfig) -> bool:
    """Whether a model of this configuration keeps experts stacked in one parameter."""
    return _looked_at(type(config), config.to_json_string(use_diff=False))[1]  # type: ignore[arg-type]


@functools.lru_cache(maxsize=8)
def _looked_at(kind: type[PretrainedConfig], config: str) -> tuple[dict[str, tuple[int, int]], bool]:
    """All linear layers with their sizes, and whether there are stacked experts."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(kind.from_dict(json.loads(config)))
    sizes = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return sizes, bool(stacks(model))


def stacks(hf: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters in decoder layers that hold many matrices, one for each expert; a convolution's kernels are none."""
    return {
        f"{name}.{own}": parameter
        for name, module in hf.named_modules()
        if not isinstance(module, torch.nn.Conv1d) and LAYER.search(f"{name}.")
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3
    }


def place(name: str) -> str:
    """`"model.layers.3.self_attn.v_proj.weight"` -> `"layer 3, self_attn.v_proj.weight"`."""
    found = re.search(r"\.(\d+)\.(.+)$", name)
    return f"layer {found[1]}, {found[2]}" if found else name
