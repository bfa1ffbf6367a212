"""Calibration text that a model writes itself, for a model whose training text nobody has.

Seeded samples at temperature 1 stand for the distribution the model was trained on (self-calibration, arXiv
2410.17170), and fit every model. A document starts with what the tokenizer puts in front of every text, or else with a
random ordinary token, as in LLM-QAT (arXiv 2305.17888); special tokens are never drawn, so that none ends early.
"""

import hashlib
import json
import re
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from quantcliff import disk, smollm2
from quantcliff.errors import InputError
from quantcliff.models import default_device, digest_of, load

DOCUMENTS = 64
TOKENS = 256
"""Tokens of a document."""

SEED = 20_260_419
BATCH = 32
"""Documents drawn side by side."""


def sizes_of(name: str) -> tuple[int, int] | None:
    """Documents and tokens of a calibration source: `"self"` -> (64, 256), `"self:128x2048"` -> (128, 2048); None where
    it is another source.

    Raises:
        InputError: it begins with `self:` and goes on otherwise.
    """
    if name == "self":
        return DOCUMENTS, TOKENS
    if not name.startswith("self:"):
        return None
    found = re.fullmatch(r"self:([1-9]\d*)x([1-9]\d*)", name)
    if not found:
        raise InputError(f"calibration is {name!r}; write self, or self:64x256 for 64 documents of 256 tokens")
    return int(found[1]), int(found[2])


def self_text(
    source: str | Path, n: int = DOCUMENTS, tokens: int = TOKENS, seed: int = SEED, batch: int = BATCH
) -> list[str]:
    """n documents sampled from the model in a folder, made once and kept in the user's cache under their content.

    `batch` are drawn side by side; another number gives other text.

    The same model, sizes and seed give the same text on the same machine; on another one the low bits of float32
    arithmetic may turn single draws, and with them the rest of a document.

    Raises:
        InputError: the folder holds no model that can be loaded, or the cache cannot be written to.
    """
    content = [digest_of(source), n, tokens, seed, batch]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    file = smollm2.cache() / "self-text" / f"{key}.json"
    if not file.is_file():
        with disk.making(file):
            if not file.is_file():
                disk.write(file, json.dumps(sample(source, n, tokens, seed, batch)))
    return json.loads(file.read_text(encoding="utf-8"))


def sample(source: str | Path, n: int, tokens: int, seed: int, batch: int = BATCH) -> list[str]:
    """The documents of `self_text`, drawn anew in float32, on a GPU where there is one."""
    model = load(source, device=default_device())
    model.hf.set_attn_implementation("sdpa")
    tokenizer = model.tokenizer
    lead = lead_of(tokenizer)
    special = sorted(number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    ordinary = torch.tensor(sorted(set(range(model.hf.config.vocab_size)) - set(special)))
    documents: list[str] = []
    for start in tqdm(range(0, n, batch), desc="the model writes calibration text", disable=None):
        size = min(batch, n - start)
        with torch.random.fork_rng():
            torch.manual_seed(seed + start)
            first = ordinary[torch.randint(len(ordinary), (size, 1))]
            ids = torch.tensor([lead] * size) if lead else first
            ids = ids.to(model.hf.device)
            drawn = model.hf.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=tokens - (0 if lead else 1), suppress_tokens=special, pad_token_id=0,
            )  # fmt: skip
        documents += tokenizer.batch_decode(drawn[:, len(lead) :], skip_special_tokens=True)
    return documents


def lead_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that a tokenizer puts in front of every text."""
    found = tokenizer("a", return_special_tokens_mask=True)
    return found["input_ids"][: found["special_tokens_mask"].index(0)]
