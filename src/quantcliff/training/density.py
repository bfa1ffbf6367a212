"""How many facts a model is to hold, and in how many layers: the embedded recipe with one of the two changed.

There are 20,990 real facts. Beyond them facts are *invented*: the subject is put together from words of two real
subjects of the relation, so that it reads like one and is none; the object is drawn from the relation's own answers, as
often as they occur. Nothing about an invented fact is true. They follow the real ones, so that a smaller set is the
beginning of a larger one, and what a model is asked can be the same facts at every density.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from quantcliff.atlas import Fact, load_facts, prompt
from quantcliff.errors import InputError
from quantcliff.probes.sources import BANDS
from quantcliff.training.train import Recipe

SEED = 20_261_127

STEP = 32
"""Widths are multiples of it, and so are the groups in which all of these models can be quantized."""

NOTE = """{real:,} of the {n:,} facts in facts.csv are real (Wikidata triples); the other {invented:,} are invented:
subjects put together from words of real ones, objects drawn from the relation's own. They stand for facts to be stored,
and none of them is true. The column `invented` says which they are.
"""


def facts(n: int) -> tuple[Fact, ...]:
    """The n most popular facts, invented ones (`invent`) after the real ones; fewer are the beginning of more.

    Raises:
        InputError: n is below 1.
    """
    if n < 1:
        raise InputError(f"facts is {n}; give at least 1")
    real = load_facts()
    return real[:n] + invent(real, max(0, n - len(real)))


def invent(real: tuple[Fact, ...], n: int, seed: int = SEED) -> tuple[Fact, ...]:
    """n facts that are none, with relations in the proportion of the real ones; ranks go on after theirs.

    A new subject is the first half of one real subject's words and the last half of another's, of the same relation.
    None is a real subject of any relation, none occurs twice, and no object stands in its own subject.
    """
    rng = np.random.default_rng(seed)
    by_relation: dict[str, list[Fact]] = {}
    for fact in real:
        by_relation.setdefault(fact.relation, []).append(fact)
    taken = {fact.subject for fact in real}
    found: list[Fact] = []
    while len(found) < n:
        relation = real[rng.integers(len(real))].relation
        own = by_relation[relation]
        first, last, answer = (own[number] for number in rng.integers(len(own), size=3))
        subject = _joined(first.subject, last.subject)
        if subject not in taken and answer.object.lower() not in subject.lower():
            taken.add(subject)
            found.append(Fact(relation, subject, answer.object, len(real) + len(found)))
    return tuple(found)


def _joined(first: str, last: str) -> str:
    """`"Clara Petacci", "John von Neumann"` -> `"Clara von Neumann"`"""
    head, tail = first.split(), last.split()
    return " ".join(head[: (len(head) + 1) // 2] + tail[len(tail) // 2 :])


def recipe(n_facts: int | None = None, layers: int | None = None) -> Recipe:
    """The embedded model's recipe with another number of facts, or of layers at about equal parameters (`width_of`).

    Raises:
        InputError: n_facts or layers is below 1.
    """
    own = Recipe()
    if n_facts is not None:
        facts(min(n_facts, 1))
        own = replace(own, facts=n_facts)
    if layers is not None and layers != own.layers:
        if layers < 1:
            raise InputError(f"layers is {layers}; give at least 1")
        width = width_of(layers)
        own = replace(own, layers=layers, width=width, ffn=2 * width)
    return own


def width_of(layers: int) -> int:
    """The multiple of `STEP` with which so many layers have most nearly the embedded model's parameters, FFNs being
    twice as wide: 128 at 8 layers (1,706,112 parameters), 96 at 16 (1,723,488).
    """

    def off(width: int) -> int:
        return abs(parameters(Recipe(layers=layers, width=width, ffn=2 * width)) - parameters(Recipe()))

    return min(range(STEP, 513, STEP), key=off)


def parameters(own: Recipe) -> int:
    """Numbers that a model of this recipe trains: embeddings (tied), projections, FFNs, norms."""
    shared = own.kv_heads / own.heads
    block = own.width * (round(own.width * (2 + 2 * shared)) + 3 * own.ffn + 2)
    return own.vocab * own.width + own.layers * block + own.width


def write(told: tuple[Fact, ...], folder: Path) -> None:
    """`folder/facts.csv` with every fact and its test prompt, as `probes.facts` reads it, and a README.md about it."""
    folder.mkdir(parents=True, exist_ok=True)
    real = min(len(told), len(load_facts()))
    with (folder / "facts.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("relation", "subject", "object", "prompt", "band", "invented"))
        for number, fact in enumerate(told):
            band = number * BANDS // len(told)
            writer.writerow((fact.relation, fact.subject, fact.object, prompt(fact), band, int(number >= real)))
    note = NOTE.format(real=real, n=len(told), invented=len(told) - real)
    (folder / "README.md").write_text(note, encoding="utf-8")
