"""Experts of a mixture: taken apart before they are quantized, and stored under the names that transformers reads.

transformers keeps the experts of a layer stacked in two parameters, and puts together packed ones from a checkpoint
that holds each as a linear layer of its own: under names that depend on the architecture, without zero points, all
with the same bits. llm-compressor takes the stacks apart, but stores the parts under its own names.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PretrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from quantcliff.errors import InputError
from quantcliff.models import has_stacked_experts
from quantcliff.quantizers.scheme import Scheme

TARGET = r"re:.*\.experts\.\d+\.\w+$"
"""All experts, by llm-compressor's names and by those of the checkpoint."""

PART = re.compile(r"(?<=\.experts\.\*\.)\w+(?=\.weight$)")


def stored_names(model_type: str) -> dict[str, str]:
    """What the matrices of an expert are called in checkpoints of an architecture, by llm-compressor's names; empty
    where transformers puts no experts together.

    >>> stored_names("mixtral")
    {'gate_proj': 'w1', 'up_proj': 'w3', 'down_proj': 'w2'}
    """
    found: dict[str, str] = {}
    for conversion in get_checkpoint_conversion_mapping(model_type) or []:
        target = str(getattr(conversion, "target_patterns", "")).rsplit(".", 1)[-1].strip("'\"]")
        own = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}.get(target, ())
        sources = conversion.source_patterns if own else []
        parts = [PART.search(source) for source in ([sources] if isinstance(sources, str) else sources)]
        if own and len(parts) == len(own):
            found |= {name: part[0] for name, part in zip(own, parts, strict=True) if part}
    return found if len(found) == 3 else {}


def check(scheme: Scheme, config: PretrainedConfig) -> None:
    """Raises InputError where a mixture of experts cannot be quantized by this scheme into a file that can be read."""
    if not has_stacked_experts(config):
        return
    if not stored_names(config.model_type):
        raise InputError(
            f"transformers finds no place for quantized experts in {config.model_type} models, and most of the "
            "weights are theirs; choose another model"
        )
    if scheme.method != "rtn":
        raise InputError(
            f"the experts of {config.model_type} models see too little of the calibration text each; choose rtn"
        )
    if scheme.layers is not None or scheme.modules is not None or scheme.bits_by_layer or scheme.bits_by_module:
        raise InputError("a mixture of experts can only be stored with the same bits everywhere; leave out the choice")


def storable(scheme: Scheme, config: PretrainedConfig) -> Scheme:
    """The scheme as a model of this configuration can be stored: without zero points where there are experts."""
    return replace(scheme, symmetric=True) if has_stacked_experts(config) else scheme


def unstack(model: PreTrainedModel) -> list[str]:
    """Make experts that are stacked in one parameter linear layers of their own, in place; their names."""
    from llmcompressor.modeling.moe.linearize import linearize_moe

    before = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    linearize_moe(model)
    now = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return [name for name in now if name not in before]


def rename(folder: Path, model_type: str) -> None:
    """Give the experts in a checkpoint folder, in place, the names that transformers looks for."""
    names = stored_names(model_type)

    def renamed(key: str) -> str:
        return re.sub(r"(\.experts\.\d+\.)(\w+)", lambda found: found[1] + names.get(found[2], found[2]), key)

    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as handle:
            metadata = handle.metadata()
        save_file({renamed(key): tensor for key, tensor in load_file(file).items()}, file, metadata)
    for index in folder.glob("*.safetensors.index.json"):
        content = json.loads(index.read_text(encoding="utf-8"))
        content["weight_map"] = {renamed(key): file for key, file in content["weight_map"].items()}
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
