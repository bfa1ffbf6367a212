"""The linear layers inside a decoder's layers, and how they are named; nothing is loaded to tell.

transformers keeps GPT-2's in a class of its own, Conv1D, whose weights lie on their side: (in, out). Here a Conv1D is a
linear layer, and a loaded model holds one in its place.
"""

import functools
import json
import re

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

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
    return dict(_known(config)[0])


def sideways(config: PretrainedConfig) -> frozenset[str]:
    """Full names of the linear layers that transformers keeps as Conv1D."""
    return _known(config)[1]


def has_stacked_experts(config: PretrainedConfig) -> bool:
    """Whether a model of this configuration keeps experts stacked in one parameter."""
    return _known(config)[2]


Looked = tuple[dict[str, tuple[int, int]], frozenset[str], bool]


def _known(config: PretrainedConfig) -> Looked:
    return _looked_at(type(config), config.to_json_string(use_diff=False))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=8)
def _looked_at(kind: type[PretrainedConfig], config: str) -> Looked:
    """All linear layers with their sizes, those that lie on their side, and whether there are stacked experts."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(kind.from_dict(json.loads(config)))
    every = dict(model.named_modules())
    turned = {name: (module.nf, module.nx) for name, module in every.items() if isinstance(module, Conv1D)}
    plain = {name: (one.out_features, one.in_features) for name, one in every.items() if isinstance(one, nn.Linear)}
    return {name: (plain | turned)[name] for name in every if name in plain | turned}, frozenset(turned), bool(
        stacks(model)
    )


class Turned(nn.Linear):
    """A linear layer that was a Conv1D."""


def turn(hf: nn.Module) -> None:
    """Put a `Turned` of the same numbers in the place of every Conv1D, in place."""
    for name, module in [(name, one) for name, one in hf.named_modules() if isinstance(one, Conv1D)]:
        linear = Turned(module.nx, module.nf, device="meta")
        linear.weight = nn.Parameter(module.weight.detach().T.contiguous(), requires_grad=False)
        linear.bias = module.bias
        hf.set_submodule(name, linear)


def turn_back(hf: nn.Module) -> None:
    """Put a Conv1D on the same memory in the place of every `Turned`, in place: for code that knows only Conv1D."""
    for name, module in [(name, one) for name, one in hf.named_modules() if isinstance(one, Turned)]:
        with torch.device("meta"):
            own = Conv1D(module.out_features, module.in_features)
        own.weight = nn.Parameter(module.weight.detach().T, requires_grad=False)
        own.bias = module.bias
        hf.set_submodule(name, own)


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
