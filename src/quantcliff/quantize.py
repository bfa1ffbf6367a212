"""Quantize a model: one `Scheme`, three methods, all through llm-compressor.

GPTQ (arXiv 2210.17323) rounds a weight at a time and lets the weights that follow make up for the error on calibration
text; AWQ (arXiv 2306.00978) first scales up the input channels that carry much signal; round-to-nearest ("rtn") looks
at nothing but the weights. auto-gptq and autoawq are archived and no longer load beside transformers 5, which is why
none of them is used. The result is an ordinary compressed-tensors checkpoint that plain transformers loads.
"""

import hashlib
import itertools
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from quantcliff.atlas.text import Writer, load_facts
from quantcliff.compressor import compress
from quantcliff.errors import InputError
from quantcliff.models import digest_of, folder_of, quantization_of
from quantcliff.scheme import METHODS, SCALE_BITS, Scheme, average_bits, linears
from quantcliff.self_text import self_text, sizes_of

__all__ = ["METHODS", "SCALE_BITS", "Scheme", "average_bits", "calibration_text", "export", "linears", "longest_input",
           "quantize", "token_batches"]  # fmt: skip

CALIBRATION_DOCUMENTS = 256
CALIBRATION_SEED = 20_260_419
MAX_TOKENS = 2048
TOKENS_PER_BATCH = 4096


def calibration_text(
    source: str = "atlas", n: int | None = None, *, model: str | Path | None = None
) -> list[str]:
    """Up to n documents (`CALIBRATION_DOCUMENTS`) to calibrate on.

    Args:
        source: "atlas" for documents made of the embedded facts and their training sentences (so none of them is a
            test prompt), "self" for text that the model writes itself (`self_text`; "self:64x256" says how many
            documents of how many tokens), or a text file: paragraphs, or lines where it has no blank line, spread
            evenly over the file.
        model: whose text "self" is: a folder or a name.

    Raises:
        InputError: no such file, or nothing in it; "self" without a model.
    """
    if sizes := sizes_of(source):
        if model is None:
            raise InputError("calibration 'self' is text that a model writes: say which model")
        return self_text(model, *sizes)[:n]
    n = CALIBRATION_DOCUMENTS if n is None else n
    if source == "atlas":
        return list(itertools.islice(Writer(load_facts()).texts(CALIBRATION_SEED), n))
    file = Path(source)
    if not file.is_file():
        raise InputError(f"there is no calibration text {source!r}; give a text file, 'atlas' or 'self'")
    text = file.read_text(encoding="utf-8", errors="replace")
    parts = re.split(r"\n\s*\n", text)
    documents = [part.strip() for part in (parts if len(parts) > 1 else text.splitlines()) if part.strip()]
    if not documents:
        raise InputError(f"the calibration text {source!r} is empty; give a file with text in it")
    return documents if len(documents) <= n else [documents[i * len(documents) // n] for i in range(n)]


def token_batches(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], longest: int = MAX_TOKENS, rows: int = 32
) -> list[Int[Tensor, "_ _"]]:
    """Documents of similar length side by side, cut to the shortest, so that no padding enters a statistic.

    Args:
        longest: tokens at which a document is cut.
        rows: documents in a batch at most; long documents come in smaller batches.
    """
    ids = sorted((tokenizer(text).input_ids[:longest] for text in documents), key=len)
    ids = [row for row in ids if row]
    batches, start = [], 0
    while start < len(ids):
        length = len(ids[start])
        size = max(1, min(rows, TOKENS_PER_BATCH // length))
        batches.append(torch.tensor([row[:length] for row in ids[start : start + size]]))
        start += size
    return batches


def longest_input(config: PretrainedConfig) -> int:
    """Tokens of a calibration document that a model of this configuration reads."""
    return min(MAX_TOKENS, getattr(config, "max_position_embeddings", MAX_TOKENS))


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
    parts = [digest_of(folder), asdict(scheme), list(calibration), version("llmcompressor")]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    target = Path(cache) / f"{scheme.label}-{key}"
    if not target.exists():
        export(folder, scheme, calibration, target)
    return target


def export(base: Path | str, scheme: Scheme, calibration: Sequence[str], out: Path) -> None:
    """Quantize into the folder `out`, which appears only when it is complete.

    Raises:
        InputError: as `quantize`, or `out` exists already.
    """
    folder, out = _folder(base), Path(out)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    scheme.check(config)
    if out.exists():
        raise InputError(f"{out} exists already; give a folder that does not")
    if scheme.method != "rtn" and not calibration:
        raise InputError(f"{scheme.method} needs calibration text; give at least one document")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.parent) as temporary:
        made = Path(temporary) / "checkpoint"
        _compress(folder, scheme, config, calibration, made)
        made.rename(out)


def _folder(base: Path | str) -> Path:
    folder = folder_of(base)
    if quantization_of(folder):
        raise InputError(f"{folder} is quantized already; give the full-precision model")
    return folder


def _compress(folder: Path, scheme: Scheme, config: PretrainedConfig, calibration: Sequence[str], out: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    batches = token_batches(tokenizer, calibration, longest_input(config))
    compress(model, tokenizer, scheme, batches, out)
