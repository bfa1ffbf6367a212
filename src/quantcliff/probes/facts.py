"""Facts as questions: text first (`load`), then tokens for one model (`probe`).

A fact is asked by a prompt that names its subject and stops before its object. The answer is the first token of the
object as it follows the prompt (method of arXiv 2604.19884, conventions in the book's appendix).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from quantcliff import smollm2
from quantcliff.errors import InputError
from quantcliff.probes import sources

DROPPED = ("relation", "subject", "reason")


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts as text, independent of any tokenizer.

    `rows` has the columns fact (int), relation, subject, objects (list of str), template, prompt, band (Int64, 0 = most
    popular fifth, <NA> if unknown); `dropped` has relation, subject, reason.
    """

    rows: pd.DataFrame
    dropped: pd.DataFrame
    name: str

    def __len__(self) -> int:
        return len(self.rows)


def load(source: str | Path, *, n_facts: int | None = None, seed: int = 0) -> Facts:
    """Read facts and draw `n_facts` of them (None: all).

    Args:
        source: "atlas" (the embedded facts, each in the template it was never trained on, drawn so that at most
            five facts share relation and object), "smollm2" (those that SmolLM2 answers, `knowledge`), a ParaRel
            folder, or a file that ends in .jsonl or .csv.

    Raises:
        InputError: the source is none of these, a line of it is broken, no fact is left, or `n_facts` is below 1.
    """
    if n_facts is not None and n_facts < 1:
        raise InputError(f"n_facts is {n_facts}; ask for at least one fact")
    path = Path(source).expanduser()
    if str(source) == "atlas":
        rows, drops = sources.atlas(n_facts, seed)
    elif str(source) == "smollm2":
        rows, drops = sources.table(smollm2.FACTS)
    elif path.is_dir():
        rows, drops = sources.pararel(path)
    elif path.is_file() and path.suffix in (".jsonl", ".csv"):
        rows, drops = sources.table(path)
    else:
        raise InputError(
            f"{source} is no fact source; give 'atlas', 'smollm2', a ParaRel folder, or a .jsonl or .csv file"
        )
    rows, trivial = _without_trivial(rows)
    if not rows:
        raise InputError(f"{source} holds no fact that can be asked: in every one the object stands in the prompt")
    if n_facts is not None and n_facts < len(rows):
        chosen = np.random.default_rng(seed).permutation(len(rows))[:n_facts]
        rows = [rows[index] for index in sorted(chosen)]
    return Facts(_frame(rows), pd.DataFrame([*drops, *trivial], columns=list(DROPPED)), str(source))


def _frame(rows: list[sources.Row]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fact": range(len(rows)),
            "relation": [row.relation for row in rows],
            "subject": [row.subject for row in rows],
            "objects": [list(row.objects) for row in rows],
            "template": [row.template for row in rows],
            "prompt": [row.prompt for row in rows],
            "band": pd.array([row.band for row in rows], dtype="Int64"),
        }
    )


def no_drops() -> pd.DataFrame:
    """The table `Facts.dropped` of facts of which none is left out."""
    return pd.DataFrame(columns=list(DROPPED))


def embedded() -> Facts:
    """All embedded facts, each in the first plain wording of its relation (`sources.wordings`)."""
    return Facts(_frame(sources.embedded()), no_drops(), smollm2.NAME)


def paraphrases(facts: Facts, templates: Mapping[str, tuple[str, ...]] | None = None) -> Facts:
    """The same facts in every wording of their relation: several rows with one number in the column `fact`.

    A fact of a file keeps its one prompt. Where the object stands in the prompt the wording is left out for that fact,
    and listed in `dropped`.

    Args:
        templates: wordings by relation; None for those of the fact source.
    """
    templates = sources.wordings(facts.name) if templates is None else templates
    numbers, rows = [], []
    for fact in facts.rows.itertuples():
        band = None if pd.isna(fact.band) else int(fact.band)
        for template in templates.get(fact.relation, (fact.template,)):
            numbers.append(fact.fact)
            rows.append(sources.Row(fact.relation, fact.subject, tuple(fact.objects), template, band))
    asked = [any(item.lower() not in row.prompt.lower() for item in row.objects) for row in rows]
    kept, trivial = _without_trivial(rows)
    frame = _frame(kept).assign(fact=[number for number, good in zip(numbers, asked, strict=True) if good])
    return Facts(frame, pd.concat([facts.dropped, pd.DataFrame(trivial, columns=list(DROPPED))]), facts.name)


def _without_trivial(rows: list[sources.Row]) -> tuple[list[sources.Row], list[sources.Drop]]:
    """Leave out objects that stand in their own prompt (case ignored), and facts that have no other."""
    kept, drops = [], []
    for row in rows:
        objects = tuple(item for item in row.objects if item.lower() not in row.prompt.lower())
        if objects:
            kept.append(row._replace(objects=objects))
        else:
            drops.append(sources.Drop(row.relation, row.subject, "trivial: the object stands in the prompt"))
    return kept, drops


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
    if not tokenizer.is_fast:
        raise InputError("the subject is found by character offsets, which only a fast tokenizer gives: save one")
    ids, answers, spans, kept, drops = [], [], [], [], []
    for row in facts.rows.itertuples():
        try:
            start = row.template.index("[X]")
            prompt, right, span = _tokens(tokenizer, row.prompt, start, start + len(row.subject), row.objects)
        except _CannotAskError as error:
            drops.append((row.relation, row.subject, str(error)))
            continue
        ids.append(prompt)
        answers.append(right)
        spans.append(span)
        kept.append((row.fact, row.relation, row.subject, " | ".join(row.objects), row.prompt, row.band))
    dropped = pd.concat([facts.dropped, pd.DataFrame(drops, columns=list(DROPPED))], ignore_index=True)
    if not ids:
        raise InputError(f"no fact of {facts.name} can be asked of this tokenizer: {dropped['reason'].iloc[-1]}")
    table = pd.DataFrame(kept, columns=["fact", "relation", "subject", "object", "prompt", "band"])
    return Probes(ids, answers, np.array(spans, dtype=np.int64), table.astype({"band": "Int64"}), dropped)


class _CannotAskError(Exception):
    """Why one fact cannot be asked with this tokenizer."""


def _tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, start: int, end: int, objects: Sequence[str]
) -> tuple[list[int], list[int], tuple[int, int]]:
    """(prompt ids, right first tokens, subject span) of one fact whose subject is `prompt[start:end]`."""
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
    firsts = [ending[0] for ending in known if tokenizer.decode(ending[:1]).strip()]
    if not firsts:
        raise _CannotAskError("the object is empty after tokenizing, or unknown to the tokenizer")
    inside = [index for index, (a, b) in enumerate(offsets) if a < end and b > start and a < b]
    if not inside:
        raise _CannotAskError("the subject is empty after tokenizing")
    return ids, list(dict.fromkeys(firsts)), (inside[0], inside[-1])


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets, without special tokens at the end."""
    found = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    size = len(found["input_ids"])
    while size and found["special_tokens_mask"][size - 1]:
        size -= 1
    return found["input_ids"][:size], found["offset_mapping"][:size]
