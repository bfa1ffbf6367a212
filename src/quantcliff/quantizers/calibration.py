"""Text that methods look at while they quantize, as documents and as batches of token ids."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from quantcliff.atlas import Writer, load_facts
from quantcliff.errors import InputError
from quantcliff.quantizers.own_text import lead_of, self_text, sizes_of

CALIBRATION_DOCUMENTS = 256
CALIBRATION_SEED = 20_260_419
AWQ_SHARE = 4
MAX_TOKENS = 2048
TOKENS_PER_BATCH = 4096

FEWEST = 2
"""Sequences that training needs: one to train on, one to choose the epoch by."""

ROW = 64
"""Tokens of a sequence that AutoRound learns from, as many as healing takes."""


def calibration_text(
    source: str = "atlas", n: int | None = None, *, model: str | Path | None = None, method: str = "gptq"
) -> list[str]:
    """Up to n documents (`CALIBRATION_DOCUMENTS`) to calibrate on.

    Args:
        source: "atlas" for documents made of the embedded facts and their training sentences (so none of them is a
            test prompt), "self" for text that the model writes itself (`own_text`; "self:64x256" says how many
            documents of how many tokens), or a text file: paragraphs, or lines where it has no blank line, spread
            evenly over the file.
        model: whose text "self" is: a folder or a name.
        method: whom it is for. AWQ looks for one scale per channel where GPTQ fits every weight, needs a tenth of the
            text (arXiv 2306.00978, section on data efficiency) and reads it twenty times a layer; of what a model
            writes itself it is given one document in `AWQ_SHARE`.

    Raises:
        InputError: no such file, or nothing in it; "self" without a model.
    """
    if sizes := sizes_of(source):
        if model is None:
            raise InputError("calibration 'self' is text that a model writes: say which model")
        documents = self_text(model, *sizes)[:n]
        return documents[: max(1, len(documents) // AWQ_SHARE)] if method == "awq" else documents
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


def check_calibration(source: str) -> None:
    """Raises InputError, as `calibration_text` would, without having a model write anything."""
    if source != "atlas" and sizes_of(source) is None:
        calibration_text(source)


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


def rows_of(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], length: int, most: int | None = None
) -> Int[Tensor, "sequence token"]:
    """Documents one after the other, cut into sequences of `length` tokens, each with the tokenizer's lead in front.

    Args:
        most: sequences at most; None for all.

    Raises:
        InputError: there is too little text for `FEWEST` sequences.
    """
    lead = lead_of(tokenizer)
    body, left = length - len(lead), None if most is None else most * length
    flat: list[int] = []
    for text in documents:
        flat += tokenizer(text).input_ids
        if left is not None and len(flat) >= left:
            break
    count = len(flat) // body if body > 0 else 0
    if count < FEWEST:
        raise InputError(
            f"the calibration text gives {count} sequences of {length} tokens; give at least {FEWEST}: more text, or "
            "shorter sequences"
        )
    count = count if most is None else min(count, most)
    return torch.tensor([lead + flat[row * body : (row + 1) * body] for row in range(count)])


def equal_rows(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], longest: int = MAX_TOKENS
) -> list[Int[Tensor, "1 _"]]:
    """`rows_of` as batches of one: AutoRound's modifier takes sequences of equal length, one at a time, and stops the
    whole process at others.

    Raises:
        InputError: as `rows_of`.
    """
    return list(rows_of(tokenizer, documents, min(longest, ROW)).split(1))


def longest_input(config: PretrainedConfig) -> int:
    """Tokens of a calibration document that a model of this configuration reads."""
    return min(MAX_TOKENS, getattr(config, "max_position_embeddings", MAX_TOKENS))
