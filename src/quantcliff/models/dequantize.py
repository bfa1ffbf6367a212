"""A quantized model turned into a plain one of the same weights.

compressed-tensors unpacks its own weights, floats of 4 and 8 bits among them; a packed layer of GPTQ or AWQ is fed the
identity matrix, which gives its weights whatever the packing. GPTQ and AWQ checkpoints are read by the
optional gptqmodel: auto-gptq and autoawq are archived and no longer load beside transformers 5.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from quantcliff.errors import InputError

BACKENDS = {"gptq": "gptq_torch", "awq": "torch_awq"}
"""Kernels of gptqmodel in plain PyTorch; the default ones round weights to bfloat16."""


def check_readable(quantization: dict[str, Any], name: str) -> None:
    """Raises InputError where a checkpoint is quantized in a format that cannot be read here, which it names."""
    method = quantization.get("quant_method")
    if method != "compressed-tensors" and method not in BACKENDS:
        raise InputError(f"{name} is quantized with {method}; only compressed-tensors, gptq and awq can be read")


def prepare(config: PretrainedConfig, name: str) -> None:
    """Check that a checkpoint's quantization can be read here, and choose how; changes `config`.

    Raises:
        InputError: the quantization method is unknown, needs the extra gptqmodel, or uses what that ignores silently.
    """
    quantization = config.quantization_config
    check_readable(quantization, name)
    method = quantization["quant_method"]
    if method == "compressed-tensors":
        return
    if any(importlib.util.find_spec(package) is None for package in ("gptqmodel", "optimum")):
        raise InputError(
            f"{name} holds {method.upper()} weights; to read them, `pip install '.[gptqmodel]'` in quantcliff's folder"
        )
    if quantization.get("dynamic"):
        raise InputError(f"{name} has per-module overrides (`dynamic`), which transformers ignores when it loads them")
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    quantization["backend"] = BACKENDS[method]


@contextmanager
def packed_embeddings() -> Iterator[None]:
    """While transformers loads: it would initialise embeddings that have no weights yet, only packed ones."""
    initialize = PreTrainedModel._initialize_weights

    def skip(self: PreTrainedModel, module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        if not isinstance(module, torch.nn.Embedding) or hasattr(module, "weight"):
            initialize(self, module, *args, **kwargs)

    PreTrainedModel._initialize_weights = skip
    try:
        yield
    finally:
        PreTrainedModel._initialize_weights = initialize


@torch.no_grad()
def plain(quantized: PreTrainedModel, config: PretrainedConfig, dtype: torch.dtype, name: str) -> PreTrainedModel:
    """A model of the same architecture and dequantized weights that knows nothing of quantization.

    Args:
        quantized: the model as transformers loads it.
        config: its configuration; the quantization is taken out of it.

    Raises:
        InputError: a layer hands over no weights.
    """
    with torch.compiler.set_stance("force_eager"):
        if hasattr(quantized, "ct_decompress_hook"):
            quantized.hf_quantizer.compressor.decompress_model(quantized)
        else:
            quantized(torch.zeros((1, 1), dtype=torch.long))
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with no_init_weights():
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
        model.tie_weights()
        state = quantized.state_dict()
        wanted = model.state_dict()
        for key, old in wanted.items():
            if key not in state and key.endswith(".weight") and old.ndim == 2:
                state[key] = _unpacked(quantized.get_submodule(key.removesuffix(".weight")), old.shape[1])
            if key not in state or state[key].shape != old.shape:
                raise InputError(f"{name} gives no dequantized weights for {key}; save it again with llm-compressor")
            state[key] = state[key].to(old.dtype)
    model.load_state_dict({key: state[key] for key in wanted}, strict=True, assign=True)  # no second copy in memory
    model.tie_weights()
    return model


def _unpacked(layer: torch.nn.Module, n_in: int) -> torch.Tensor:
    """Weights (n_out, n_in) of a packed linear layer: what it makes of each unit vector, bias taken off."""
    out = layer(torch.eye(n_in)).float()
    bias = getattr(layer, "bias", None)
    return (out if bias is None else out - bias.float()).T.contiguous()
