"""Next-token recall: the second kind of probe, for a model that knows none of the facts.

A position of a text at which full precision's first choice is confident stands for a fact, and that choice is its
answer, whether or not the text goes on so. Full precision is right by construction; what is asked is whether the
quantized model still makes the same choice. A position has no subject, so what needs one does not apply.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from quantcliff.errors import InputError
from quantcliff.models import Model
from quantcliff.probes.facts import DROPPED, Probes

RELATION = "text"
"""Stands in the column `relation` of all positions."""

CONTEXT = 64
"""Tokens that a prompt has at most, special tokens apart."""

FEWEST_TOKENS = 8
"""Tokens that must stand before a position, special tokens apart."""

FEWEST_POSITIONS = 20
SPARE = 4
"""How many times the wanted number of positions is looked for, to draw evenly from."""

NUMBERS_AT_ONCE = 2**26


def documents(file: str | Path) -> list[str]:
    """Paragraphs of a text file, or its lines where it has no blank line.

    Raises:
        InputError: no such file, or nothing in it.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"there is no text file {file}; give one, or leave text empty")
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not text:
        raise InputError(f"the text file {file} is empty; give a file with text in it")
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    return paragraphs if len(paragraphs) > 1 else [line.strip() for line in text.splitlines() if line.strip()]


def recall(
    model: Model, file: str | Path, *, n: int, min_probability: float = 0.5, context: int = CONTEXT, seed: int = 0
) -> Probes:
    """Probes from a text: prompts that end where `model` is confident of what comes next, its choice the answer.

    Positions are drawn so that no answer is more frequent than it must be, or the words of grammar would be most of it.

    Args:
        model: full precision, not wrapped by a runner.
        n: positions to draw; fewer where the text has fewer.
        min_probability: what the first choice must have to count as confident (0.5: more than all others together).
        context: tokens that a prompt has at most; it begins at its paragraph, or at a later piece of that length.

    Returns:
        `subject` is -1 -1 everywhere, `relation` is "text", `band` is missing.

    Raises:
        InputError: no such file, an empty one, fewer than `FEWEST_POSITIONS` confident positions, or `n`,
            `min_probability` or `context` out of range.
    """
    if n < 1 or not 0 < min_probability <= 1 or context < FEWEST_TOKENS:
        raise InputError(
            f"n is {n}, min_probability {min_probability}, context {context}; give at least 1, a share, and at least "
            f"{FEWEST_TOKENS} tokens"
        )
    pieces, dropped = _pieces(model.tokenizer, documents(file), context)
    ids: list[list[int]] = []
    answers: list[int] = []
    order = np.random.default_rng(seed).permutation(len(pieces))
    for prompts, found in _confident(model, [pieces[index] for index in order], min_probability):
        ids += prompts
        answers += found
        if len(answers) >= SPARE * n:
            break
    if len(answers) < FEWEST_POSITIONS:
        raise InputError(
            f"{model.name} is confident (first choice at {min_probability:.0%} or more) at only {len(answers)} "
            f"positions of {file}; give a longer text, or one of the kind it was trained on"
        )
    chosen = _evenly(np.array(answers), n, seed)
    decode = model.tokenizer.decode
    table = pd.DataFrame(
        {
            "fact": range(len(chosen)),
            "relation": RELATION,
            "subject": "",
            "object": [decode([answers[index]]).strip() for index in chosen],
            "prompt": [decode(ids[index], skip_special_tokens=True) for index in chosen],
            "band": pd.array([pd.NA] * len(chosen), dtype="Int64"),
        }
    )
    subject = np.full((len(chosen), 2), -1, dtype=np.int64)
    return Probes([ids[index] for index in chosen], [[answers[index]] for index in chosen], subject, table, dropped)


def _pieces(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], context: int
) -> tuple[list[tuple[list[int], int]], pd.DataFrame]:
    """(token ids, number of special ones in front) of every piece; what was too short is in the second table."""
    pieces, short = [], []
    for text in texts:
        found = tokenizer(text, return_special_tokens_mask=True)
        special = np.array(found["special_tokens_mask"], dtype=bool)
        ids, lead = np.array(found["input_ids"]), int(np.argmin(np.append(special, False)))
        body = ids[lead:][~special[lead:]].tolist()
        if len(body) < FEWEST_TOKENS:
            short.append((RELATION, text, f"fewer than {FEWEST_TOKENS} tokens"))
        starts = range(0, len(body) - FEWEST_TOKENS + 1, context)
        pieces += [(ids[:lead].tolist() + body[start : start + context], lead) for start in starts]
    return pieces, pd.DataFrame(short, columns=list(DROPPED))


@torch.no_grad()
def _confident(
    model: Model, pieces: list[tuple[list[int], int]], least: float
) -> Iterator[tuple[list[list[int]], list[int]]]:
    """Prompts and answers of a few pieces at a time; blank and special tokens are no answers."""
    longest = max((len(ids) for ids, _ in pieces), default=1)
    size = min(64, max(1, NUMBERS_AT_ONCE // (model.hf.config.vocab_size * longest)))
    device = next(model.hf.parameters()).device
    special = set(model.tokenizer.all_special_ids)
    for start in tqdm(range(0, len(pieces), size), desc="looking for confident positions", leave=False, disable=None):
        batch = pieces[start : start + size]
        padded = torch.zeros(len(batch), max(len(ids) for ids, _ in batch), dtype=torch.long)
        for row, (ids, _) in enumerate(batch):
            padded[row, : len(ids)] = torch.tensor(ids)
        chance, choice = torch.softmax(model.hf(padded.to(device)).logits.float(), -1).max(-1)
        prompts, answers = [], []
        for row, (ids, lead) in enumerate(batch):
            for end in range(lead + FEWEST_TOKENS, len(ids) + 1):
                answer = int(choice[row, end - 1])
                if chance[row, end - 1] >= least and answer not in special and model.tokenizer.decode([answer]).strip():
                    prompts.append(ids[:end])
                    answers.append(answer)
        yield prompts, answers


def _evenly(answers: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices of n of the answers, in order: one of every answer, drawn at random, then a second, and so on."""
    shuffled = np.random.default_rng(seed).permutation(len(answers))
    turn = pd.Series(answers[shuffled]).groupby(answers[shuffled]).cumcount().to_numpy()
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:n]])
