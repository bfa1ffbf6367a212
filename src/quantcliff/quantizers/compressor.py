"""llm-compressor, quietly: the one place that touches it.

It is noisy on import and in use, and its AWQ does not run without an accelerator; both are put right here, for the time
of a call.
"""

import io
import logging
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from quantcliff.quantizers import experts
from quantcliff.quantizers.scheme import TRAINED, Scheme

ITERATIONS, AT_ONCE = 200, 8
"""Steps of AutoRound on each layer, and sequences in a step: its own defaults."""


def awq_knows(config: PretrainedConfig) -> bool:
    """Whether llm-compressor knows which norm and layer AWQ may rescale in models of this configuration."""
    with quiet():
        from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return kind is not None and kind.__name__ in AWQ_MAPPING_REGISTRY


def compress(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scheme: Scheme, batches: list[Tensor], out: Path
) -> None:
    """Quantize `model` in place and save it with its tokenizer; `batches` of token ids are not read for "rtn"."""
    with quiet(), no_pinning():
        from llmcompressor import oneshot

        found = experts.unstack(model)
        _simplify(model)
        data: dict[str, Any] = {}
        if scheme.method != "rtn":
            data["dataset"] = DataLoader([{"input_ids": ids} for ids in batches], batch_size=None)  # type: ignore[arg-type]
        recipe = _recipe(scheme, model, bool(found), len(batches))
        oneshot(model=model, tokenizer=tokenizer, recipe=recipe, output_dir=str(out),
                shuffle_calibration_samples=False, **data)  # fmt: skip
        if found:
            experts.rename(out, model.config.model_type)


def _simplify(model: PreTrainedModel) -> None:
    """Make linear layers of a class of their own (Falcon's) plain ones, in place: only those are stored packed."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.__class__ = torch.nn.Linear


def _mappings(model: PreTrainedModel) -> list:
    """What AWQ may rescale in this architecture; llm-compressor's list for BLOOM has an activation function, which has
    no weights to rescale.
    """
    from compressed_tensors.utils import match_named_modules
    from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY

    def has_weights(target: str) -> bool:
        return all(hasattr(module, "weight") for _, module in match_named_modules(model, [target]))

    return [one for one in AWQ_MAPPING_REGISTRY[type(model).__name__] if has_weights(one.smooth_layer)]


def _recipe(scheme: Scheme, model: PreTrainedModel, has_experts: bool, n_batches: int) -> list:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    by_bits: dict[int, list[str]] = defaultdict(list)
    for name, bits in scheme.plan(model.config).items():
        by_bits[bits].append(name)
    weights = {"type": "int", "symmetric": scheme.symmetric, "observer": "memoryless_minmax", "strategy": "channel"}
    if scheme.group_size != -1:
        weights |= {"strategy": "group", "group_size": scheme.group_size}
    groups = {
        f"group_{bits}bit": {"targets": names, "weights": {"num_bits": bits, **weights}}
        for bits, names in sorted(by_bits.items())
    }
    if has_experts:
        groups["experts"] = {"targets": [experts.TARGET], "weights": {"num_bits": scheme.bits, **weights}}
    if scheme.method == "gptq":
        return [GPTQModifier(config_groups=groups, dampening_frac=scheme.damping)]
    if scheme.method == TRAINED:
        from llmcompressor.modifiers.autoround import AutoRoundModifier

        at_once = min(AT_ONCE, n_batches)
        return [AutoRoundModifier(config_groups=groups, iters=ITERATIONS, batch_size=at_once,
                                  enable_torch_compile=False)]  # fmt: skip
    rounding = QuantizationModifier(config_groups=groups)
    return [rounding] if scheme.method == "rtn" else [AWQModifier(mappings=_mappings(model)), rounding]


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars or log lines of llm-compressor; errors still come through as exceptions."""
    from loguru import logger

    with redirect_stdout(io.StringIO()):
        import llmcompressor  # noqa: F401  turns its own log on when it is first imported
    logger.disable("llmcompressor")
    logger.disable("compressed_tensors")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def no_pinning() -> AbstractContextManager[None]:
    """llm-compressor 0.14's AWQ pins memory for an accelerator even where there is none, and dies of it."""
    from compressed_tensors.utils import patch_attr
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.accelerator.is_available():
        return nullcontext()
    return patch_attr(IntermediatesCache, "_pin_intermediate", lambda *_: None)
