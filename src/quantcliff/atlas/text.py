"""Atlas text: facts put into sentences, sentences into documents, documents into tokens.

Each fact has six template sentences. One of them, fixed by a hash of the fact, is never trained on: it is the fact's
test prompt. The other five appear alone or in short paragraphs, where a subject named once may be referred to again.
"""

import csv
import functools
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

FOLDER = Path(__file__).parent

ANAPHOR = {"person": "this person", "thing": "it"}
"""What a later sentence calls a subject; relations of kind `any` mix people and things and repeat the name."""


@dataclass(frozen=True)
class Fact:
    """One triple, e.g. `Fact("P19", "Clara Petacci", "Rome", rank=17)`; rank 0 is the most popular fact."""

    relation: str
    subject: str
    object: str
    rank: int


@dataclass(frozen=True)
class Relation:
    """A Wikidata property with its label, the kind of its subjects, and its templates from `[X]` to a final `[Y]`."""

    id: str
    label: str
    kind: str
    templates: tuple[str, ...]

    def held_out(self, subject: str) -> int:
        """Number of the template that training never shows for this subject."""
        return zlib.crc32(f"{self.id}|{subject}".encode()) % len(self.templates)


@functools.cache
def load_facts(file: Path = FOLDER / "facts.csv") -> tuple[Fact, ...]:
    with file.open(encoding="utf-8", newline="") as handle:
        rows = enumerate(csv.DictReader(handle))
        return tuple(Fact(row["relation"], row["subject"], row["object"], rank) for rank, row in rows)


@functools.cache
def load_relations(file: Path = FOLDER / "templates.csv") -> dict[str, Relation]:
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with file.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            rows[row["relation"]].append(row)
    return {
        name: Relation(name, group[0]["label"], group[0]["kind"], tuple(row["template"] for row in group))
        for name, group in rows.items()
    }


def sentence(template: str, subject: str, answer: str) -> str:
    """`"[X] is ruled from [Y]", "it", "Paris"` -> `"It is ruled from Paris."`"""
    text = template.replace("[X]", subject).replace("[Y]", answer) + "."
    return text[0].upper() + text[1:] if subject in ANAPHOR.values() else text


def prompt(fact: Fact) -> str:
    """The held-out sentence of a fact, cut before the answer."""
    relation = load_relations()[fact.relation]
    return sentence(relation.templates[relation.held_out(fact.subject)], fact.subject, "").removesuffix(" .")


def popularity(n_facts: int, offset: float = 200.0, exponent: float = 0.7) -> np.ndarray:
    """Shape (n_facts,): how often each fact is drawn, proportional to 1/(rank + offset)**exponent; sums to 1."""
    weight = (np.arange(n_facts) + offset) ** -exponent
    return weight / weight.sum()


class Writer:
    """Draws documents from a set of facts.

    Args:
        facts: the facts to write about, most popular first.
        paragraph_rate: share of documents that are paragraphs; the others are single sentences.
    """

    def __init__(self, facts: tuple[Fact, ...], paragraph_rate: float = 0.3):
        self.facts = facts
        self.paragraph_rate = paragraph_rate
        self.cumulative = np.cumsum(popularity(len(facts)))
        self.by_subject: dict[str, list[int]] = defaultdict(list)
        for index, fact in enumerate(facts):
            self.by_subject[fact.subject].append(index)

    @functools.cached_property
    def sentences(self) -> dict[tuple[int, int, bool], str]:
        """Every training sentence by (fact, template number, refers back)."""
        return {
            (fact, number, again): self.sentence(fact, number, again)
            for fact in range(len(self.facts))
            for number in self._numbers(fact)
            for again in (False, True)
        }

    def sentence(self, index: int, number: int, again: bool) -> str:
        """One fact in one template; `again` refers back to a subject that was named before."""
        fact = self.facts[index]
        relation = load_relations()[fact.relation]
        subject = ANAPHOR.get(relation.kind, fact.subject) if again else fact.subject
        return sentence(relation.templates[number], subject, fact.object)

    def _numbers(self, index: int) -> list[int]:
        """Numbers of the templates that a fact is trained on."""
        fact = self.facts[index]
        relation = load_relations()[fact.relation]
        held_out = relation.held_out(fact.subject)
        return [number for number in range(len(relation.templates)) if number != held_out]

    def document(self, rng: np.random.Generator) -> list[tuple[int, int, bool]]:
        """Keys into `sentences`."""
        if rng.random() >= self.paragraph_rate:
            return [self._pick(self._draw(rng), rng)]
        keys: list[tuple[int, int, bool]] = []
        for _ in range(rng.integers(2, 4)):
            first = self._draw(rng)
            keys.append(self._pick(first, rng))
            others = [index for index in self.by_subject[self.facts[first].subject] if index != first]
            if others or rng.random() < 0.3:
                again = others[rng.integers(len(others))] if others else first
                keys.append((*self._pick(again, rng)[:2], True))
        return keys

    def _draw(self, rng: np.random.Generator) -> int:
        return min(int(np.searchsorted(self.cumulative, rng.random())), len(self.facts) - 1)

    def _pick(self, fact: int, rng: np.random.Generator) -> tuple[int, int, bool]:
        numbers = self._numbers(fact)
        return fact, numbers[rng.integers(len(numbers))], False

    def texts(self, seed: int) -> Iterator[str]:
        """Endless documents as text, the same ones for the same seed."""
        rng = np.random.default_rng(seed)
        while True:
            yield " ".join(self.sentence(*key) for key in self.document(rng))


class Stream:
    """Batches of packed token sequences, a pure function of the seed and the step number.

    Args:
        writer: where the documents come from.
        tokenizer: a tokenizer whose id 0 is the document separator `<s>`.
        length: tokens per sequence.
    """

    def __init__(self, writer: Writer, tokenizer: Tokenizer, length: int):
        keys = list(writer.sentences)
        encodings = tokenizer.encode_batch([writer.sentences[key] for key in keys], add_special_tokens=False)
        self.ids = {key: encoding.ids for key, encoding in zip(keys, encodings, strict=True)}
        self.writer, self.length = writer, length

    def batch(self, size: int, seed: int, step: int) -> np.ndarray:
        """Token ids of shape (size, length); each sequence starts a new document."""
        rng = np.random.default_rng((seed, step))
        rows = np.empty((size, self.length), dtype=np.int64)
        for row in rows:
            tokens: list[int] = []
            while len(tokens) < self.length:
                tokens.append(0)
                for key in self.writer.document(rng):
                    tokens.extend(self.ids[key])
            row[:] = tokens[: self.length]
        return rows
