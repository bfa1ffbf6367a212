"""Facts as one model reads them: token ids of prompts, right answers, where the subject stands.

The answer is the first token of the object as it follows the prompt (method of arXiv 2604.19884, conventions in the
book's appendix); `objects` are all of its tokens.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from quantcliff.errors import InputError
from quantcliff.probes.texts import DROPPED, Facts


@dataclass(frozen=True, eq=False)
class Probes:
    """n prompts as one model reads them; row i of `table` belongs to prompt i.

    Attributes:
        input_ids: unpadded token ids, with the special tokens the tokenizer puts in front.
        answers: ids of the distinct right first tokens, usually one.
        subject: first and last token of the subject, inclusive; -1 -1 where a prompt has no subject.
        table: fact, relation, subject, object (several joined by " | "), prompt, band.
        dropped: relation, subject, reason.
    """

    input_ids: list[list[int]]
    answers: list[list[int]]
    subject: Int[np.ndarray, "n 2"]
    table: pd.DataFrame
    dropped: pd.DataFrame

    def __post_init__(self) -> None:
        sizes = {len(self.input_ids), len(self.answers), len(self.subject), len(self.table)}
        if len(sizes) != 1:
            raise ValueError(f"a probe set's parts have different lengths: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens per prompt."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)

    @property
    def last(self) -> Int[np.ndarray, " n"]:
        """Index of each prompt's last token, where the answer is predicted."""
        return self.lengths - 1

    @cached_property
    def digest(self) -> str:
        """16 hex digits that stand for prompts, answers and subject positions."""
        content = [self.input_ids, self.answers, self.subject.tolist(), self.table["prompt"].tolist()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def draw(self, n: int, seed: int = 0) -> "Probes":
        """At most n of the prompts, evenly drawn, in their order; a smaller draw is part of a larger one."""
        return self.select(np.sort(np.random.default_rng(seed).permutation(len(self))[:n]))

    def select(self, indices: Sequence[int] | np.ndarray) -> "Probes":
        """The prompts of these indices (or of a boolean mask of length n), in this order."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return Probes(
            [self.input_ids[index] for index in chosen],
            [self.answers[index] for index in chosen],
            self.subject[chosen],
            self.table.iloc[chosen].reset_index(drop=True),
            self.dropped,
        )


def probe(facts: Facts, tokenizer: PreTrainedTokenizerBase) -> Probes:
    """Tokenize facts for one model; those it cannot ask are listed in `dropped`.

    Raises:
        InputError: the tokenizer is a slow one, which gives no character offsets, or no fact is left.
    """
    ids, answers, spans, kept, drops = [], [], [], [], []
    for row, asked in _all(facts, tokenizer):
        if isinstance(asked, str):
            drops.append((row.relation, row.subject, asked))
            continue
        ids.append(asked.ids)
        answers.append(list(dict.fromkeys(ending[0] for ending in asked.endings)))
        spans.append(asked.subject)
        kept.append((row.fact, row.relation, row.subject, " | ".join(row.objects), row.prompt, row.band))
    dropped = pd.concat([facts.dropped, pd.DataFrame(drops, columns=list(DROPPED))], ignore_index=True)
    if not ids:
        raise InputError(f"no fact of {facts.name} can be asked of this tokenizer: {dropped['reason'].iloc[-1]}")
    table = pd.DataFrame(kept, columns=["fact", "relation", "subject", "object", "prompt", "band"])
    return Probes(ids, answers, np.array(spans, dtype=np.int64), table.astype({"band": "Int64"}), dropped)


def counts(facts: Facts, probes: Probes | None = None) -> pd.DataFrame:
    """What became of a source's lines, a row for each relation.

    Args:
        probes: of these facts, where a tokenizer has had its say too.

    Returns:
        lines, facts (that can be asked), several (of these, with more than one right object), and a column for each
        reason for which facts were left out. Lines beyond facts and those left out say a fact again, or give it another
        right object.
    """
    kept = facts.rows if probes is None else facts.rows[facts.rows["fact"].isin(probes.table["fact"])]
    gone = facts.dropped if probes is None else probes.dropped
    columns = {
        "lines": pd.Series(facts.lines, dtype="int64"),
        "facts": kept.groupby("relation").size(),
        "several": kept[kept["objects"].map(len) > 1].groupby("relation").size(),
    }
    columns |= {str(reason): part.groupby("relation").size() for reason, part in gone.groupby("reason")}
    return pd.DataFrame(columns).fillna(0).astype(int).rename_axis("relation")


def whole_objects(facts: Facts, tokenizer: PreTrainedTokenizerBase) -> list[list[list[int]]]:
    """For every prompt of `probe`, in its order, all tokens of each right object as they follow the prompt."""
    return [asked.endings for _, asked in _all(facts, tokenizer) if not isinstance(asked, str)]


class _Asked(NamedTuple):
    """One fact: ids of its prompt and of every right object after it, first and last token of its subject."""

    ids: list[int]
    endings: list[list[int]]
    subject: tuple[int, int]


class _CannotAskError(Exception):
    """Why one fact cannot be asked with this tokenizer."""


def _all(facts: Facts, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[Any, _Asked | str]]:
    """Every row of the facts, and how it is asked, or why it cannot be."""
    if not tokenizer.is_fast:
        raise InputError("the subject is found by character offsets, which only a fast tokenizer gives: save one")
    for row in facts.rows.itertuples():
        start = row.template.index("[X]")
        try:
            yield row, _tokens(tokenizer, row.prompt, start, start + len(row.subject), row.objects)
        except _CannotAskError as error:
            yield row, str(error)


def _tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, start: int, end: int, objects: Sequence[str]
) -> _Asked:  # fmt: skip
    """One fact whose subject is `prompt[start:end]`."""
    ids, offsets = _encode(tokenizer, prompt)
    endings = []
    for item in objects:
        whole, _ = _encode(tokenizer, f"{prompt} {item}")
        if whole[: len(ids)] != ids:
            raise _CannotAskError("the tokenizer joins the end of the prompt with the object")
        endings.append(whole[len(ids) :])
    blank = endings[0][:1] if all(endings) else []
    if blank and not tokenizer.decode(blank).strip() and all(ending[:1] == blank for ending in endings):
        ids, endings = ids + blank, [ending[1:] for ending in endings]
    known = [ending for ending in endings if ending[:1] != [tokenizer.unk_token_id]]
    told = [ending for ending in known if tokenizer.decode(ending[:1]).strip()]
    if not told:
        raise _CannotAskError("the object is empty after tokenizing, or unknown to the tokenizer")
    inside = [index for index, (a, b) in enumerate(offsets) if a < end and b > start and a < b]
    if not inside:
        raise _CannotAskError("the subject is empty after tokenizing")
    return _Asked(ids, told, (inside[0], inside[-1]))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets, without special tokens at the end."""
    found = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    size = len(found["input_ids"])
    while size and found["special_tokens_mask"][size - 1]:
        size -= 1
    return found["input_ids"][:size], found["offset_mapping"][:size]
