"""Quantize a model: one `Scheme`, four methods, all through llm-compressor.

GPTQ (arXiv 2210.17323) rounds a weight at a time and lets the weights that follow make up for the error on calibration
text; AWQ (arXiv 2306.00978) first scales up the input channels that carry much signal; AutoRound (arXiv 2309.05516)
trains which way each weight is rounded; round-to-nearest ("rtn") looks at nothing but the weights. auto-gptq and
autoawq are archived and no longer load beside transformers 5, which is why none of them is used. The result is an
ordinary compressed-tensors checkpoint that plain transformers loads.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from transformers import PretrainedConfig

from quantcliff import disk
from quantcliff.errors import InputError
from quantcliff.models import (
    config_of,
    digest_of,
    folder_of,
    linears,
    pretrained,
    quantization_of,
    tokenizer_of,
)
from quantcliff.quantizers import experts
from quantcliff.quantizers.calibration import equal_rows, longest_input, token_batches
from quantcliff.quantizers.compressor import awq_knows, compress
from quantcliff.quantizers.scheme import TRAINED, Scheme

SIDE = 32
"""What AutoRound wants both sides of a weight to be a multiple of."""


def quantize(base: Path | str, scheme: Scheme, calibration: Sequence[str], cache: Path) -> Path:
    """Folder of the quantized checkpoint in `cache`, made only if no equal one is there.

    Equal means: same contents of the base folder, same scheme, same calibration text, same llm-compressor. A killed
    run leaves no folder that could be mistaken for a finished one.

    Args:
        base: folder of a full-precision model, or "atlas".
        calibration: documents; "rtn" does not look at them.

    Raises:
        InputError: the scheme does not fit the model, or the folder holds no full-precision model.
    """
    folder = _folder(base)
    if scheme.method == "rtn":
        calibration = ()
    if scheme.method != "gptq":
        scheme = replace(scheme, damping=Scheme.damping)
    scheme = experts.storable(scheme, config_of(folder))
    parts = [digest_of(folder), asdict(scheme), list(calibration), version("llmcompressor")]
    parts += [version("auto-round")] if scheme.method == TRAINED else []
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    target = Path(cache) / f"{scheme.label}-{key}"
    with disk.making(target):
        if not target.exists():
            _export(folder, scheme, calibration, target)
    return target


def export(base: Path | str, scheme: Scheme, calibration: Sequence[str], out: Path) -> None:
    """Quantize into the folder `out`, which appears only when it is complete; a mixture of experts symmetrically
    (`experts.storable`).

    Raises:
        InputError: as `quantize`, or `out` exists already.
    """
    folder, out = _folder(base), Path(out)
    with disk.making(out):
        disk.absent(out)
        _export(folder, scheme, calibration, out)


def _export(folder: Path, scheme: Scheme, calibration: Sequence[str], out: Path) -> None:
    config = config_of(folder)
    check(scheme, config)
    scheme = experts.storable(scheme, config)
    if scheme.method != "rtn" and not calibration:
        raise InputError(f"{scheme.method} needs calibration text; give at least one document")
    with disk.whole(out) as part:
        _compress(folder, scheme, config, calibration, part)


def check(scheme: Scheme, config: PretrainedConfig) -> None:
    """Raises InputError where `Scheme.check` does, where llm-compressor's AWQ does not know the architecture, and where
    AutoRound would leave a weight alone: llm-compressor 0.14 stores that one with scales that nobody has set.
    """
    scheme.check(config)
    if scheme.method == "awq" and not awq_knows(config):
        raise InputError(f"llm-compressor's AWQ does not know {config.model_type} models; choose gptq or rtn")
    sides = {side for name in scheme.plan(config) for side in linears(config)[name]} if scheme.method == TRAINED else {}
    if odd := [side for side in sides if side % SIDE]:
        raise InputError(
            f"AutoRound leaves out weights with a side of {odd[0]}, which {SIDE} does not divide; choose gptq or rtn"
        )
    experts.check(scheme, config)


def _folder(base: Path | str) -> Path:
    folder = folder_of(base)
    if quantization_of(folder):
        raise InputError(f"{folder} is quantized already; give the full-precision model")
    return folder


def _compress(folder: Path, scheme: Scheme, config: PretrainedConfig, calibration: Sequence[str], out: Path) -> None:
    model, tokenizer = pretrained(folder, config, "auto").eval(), tokenizer_of(folder)
    batched = equal_rows if scheme.method == TRAINED else token_batches
    batches = batched(tokenizer, calibration, longest_input(config)) if calibration else []
    compress(model, tokenizer, scheme, batches, out)
