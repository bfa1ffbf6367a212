"""A quantized model turned into a plain one of the same weights.

compressed-tensors unpacks its own weights, floats of 4 and 8 bits among them; GPTQ and AWQ checkpoints are read off
their bytes (`packed`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from quantcliff.errors import InputError
from quantcliff.models import packed

READABLE = ("compressed-tensors", *packed.LAYOUTS)


def check_readable(quantization: dict[str, Any], name: str) -> None:
    """Raises InputError where a checkpoint is quantized in a format that cannot be read here, which it names."""
    method = quantization.get("quant_method")
    if method not in READABLE:
        raise InputError(f"{name} is quantized with {method}; only compressed-tensors, gptq and awq can be read")
    if method in packed.LAYOUTS:
        packed.check(quantization, name)


@contextmanager
def packed_modules() -> Iterator[None]:
    """While transformers loads: it would initialise layers that have no weights yet, only packed ones."""
    initialize = PreTrainedModel._initialize_weights

    def skip(self: PreTrainedModel, module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        if not isinstance(module, torch.nn.Embedding | torch.nn.Linear) or hasattr(module, "weight"):
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
            if key not in state or state[key].shape != old.shape:
                raise InputError(f"{name} gives no dequantized weights for {key}; save it again with llm-compressor")
            state[key] = state[key].to(old.dtype)
    model.load_state_dict({key: state[key] for key in wanted}, strict=True, assign=True)  # no second copy in memory
    model.tie_weights()
    return model
