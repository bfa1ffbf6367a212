"""A GGUF file as an ordinary checkpoint folder: plain float32 weights, a tokenizer, and what the file's blocks were.

transformers unpacks the blocks. The folder is made once and kept in the cache under the file's own hash; it needs four
bytes a weight there. Its weights lie on the file's grid, and `gguf.json` says which that is.
"""

import contextlib
import functools
import hashlib
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from quantcliff import disk, smollm2
from quantcliff.errors import InputError, first_line

GRIDS = {
    "Q4_0": (4, 32, True), "Q4_1": (4, 32, False), "Q5_0": (5, 32, True), "Q5_1": (5, 32, False),
    "Q8_0": (8, 32, True), "Q2_K": (2, 16, False), "Q3_K": (3, 16, True), "Q4_K": (4, 32, False),
    "Q5_K": (5, 32, False), "Q6_K": (6, 16, True),
}  # fmt: skip
"""Kind of block -> bits, weights that share a scale, whether levels lie around 0."""

WHOLE = ("F32", "F16", "BF16")
"""Kinds that hold the numbers themselves."""

NOTE = "gguf.json"

SENTENCE = "The river Thames flows through London, the capital of England, since long before anybody wrote it down."

CHARACTERS = 1.3
"""Characters a token that an ordinary English sentence must have: four to five in vocabularies of language models, 1.5
in one of 300 tokens, and about one where every character is a token."""


def unpacked(file: Path) -> Path:
    """The checkpoint folder of a GGUF file.

    Raises:
        InputError: it is no GGUF file, has blocks of a kind that has no even levels, an architecture that transformers
            does not read from GGUF, missing weights, or a tokenizer that splits words to pieces; or the cache cannot
            be written to.
    """
    stat = file.stat()
    return _unpacked(file.resolve(), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache
def _unpacked(file: Path, size: int, changed: int) -> Path:
    with file.open("rb") as handle:
        name = hashlib.file_digest(handle, "sha256").hexdigest()[:8]
    folder = smollm2.cache() / "gguf" / f"{file.stem}-{name}"
    if folder.is_dir():
        return folder
    kinds = _kinds(file)
    if unknown := sorted(set(kinds) - {*WHOLE, *GRIDS}):
        raise InputError(f"{file} holds blocks of kind {unknown[0]}; only {', '.join([*WHOLE, *GRIDS])} can be judged")
    with disk.making(folder):
        if not folder.is_dir():
            with disk.whole(folder) as part:
                _model(file).save_pretrained(part)
                _tokenizer(file).save_pretrained(part)
                disk.write(part / NOTE, json.dumps({"file": str(file), "kinds": kinds}) + "\n")
    return folder


def made(folder: Path) -> bool:
    """Whether a folder was made of a GGUF file."""
    return (folder / NOTE).is_file()


def stated(folder: Path) -> dict[str, Any] | None:
    """What a folder made of a GGUF file was quantized to, as `folders.quantization_of`; None for any other folder, and
    for one of whole numbers. `grids` besides: (bits, group size, symmetric) of every kind of block, fewest bits first.
    """
    if not made(folder):
        return None
    kinds = json.loads((folder / NOTE).read_text(encoding="utf-8"))["kinds"]
    grids = {kind: GRIDS[kind] for kind in kinds if kind in GRIDS}
    if not grids:
        return None
    method = min(grids, key=lambda kind: grids[kind][0])
    bits, size, symmetric = grids[method]
    return {
        "format": "gguf", "method": method.lower(), "bits": bits, "group_size": size, "symmetric": symmetric,
        "mixed": len(kinds) > 1, "grids": tuple(sorted(grids.values())),
    }  # fmt: skip


def _kinds(file: Path) -> dict[str, int]:
    """How many matrices in layers have blocks of each kind."""
    from gguf import GGUFReader

    try:
        tensors = GGUFReader(file).tensors
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"{file} cannot be read as GGUF: {first_line(error)}") from error
    layers = [tensor for tensor in tensors if re.match(r"blk\.\d+\..*\.weight$", tensor.name)]
    return dict(Counter(tensor.tensor_type.name for tensor in layers if len(tensor.shape) > 1))


def _model(file: Path) -> PreTrainedModel:
    disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            read, report = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{file} cannot be loaded as a causal language model: {first_line(error)}") from error
    if missing := report["missing_keys"]:
        raise InputError(f"{file} lacks weights that its architecture asks for, first {min(missing)}")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(_config(read.config))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    return model


def _config(config: PretrainedConfig) -> PretrainedConfig:
    """Without the quantization, and with numbers as people write them: a file holds 1e-5 in single precision."""
    values = {
        name: float(f"{value:.7g}") if isinstance(value, float) else value
        for name, value in config.to_dict().items()
        if name != "quantization_config" and not name.startswith("_")
    }
    return type(config).from_dict(values | {"dtype": "float32"})


def _tokenizer(file: Path) -> PreTrainedTokenizerBase:
    """The one that lies beside the file, or else what transformers makes of the file."""
    if (file.parent / "tokenizer.json").is_file():
        return AutoTokenizer.from_pretrained(file.parent, local_files_only=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise InputError(
            f"transformers makes no tokenizer of {file} ({first_line(error)}); put the model's own tokenizer.json "
            "beside it"
        ) from error
    length = len(SENTENCE) / len(tokenizer(SENTENCE, add_special_tokens=False).input_ids)
    if length < CHARACTERS:
        raise InputError(
            f"the tokenizer that transformers makes of {file} has {length:.1f} characters a token in plain English, so "
            "it is not the model's; put the model's own tokenizer.json beside the file"
        )
    tokenizer.init_kwargs["made_from_gguf"] = True
    return tokenizer
