"""Tasks that are solved in context, as facts: the answer stands in the prompt or follows from it, and is not recalled.

Each is a source of facts, `facts=tasks:NAME`, so that every stage can be asked of it. A prompt ends before its answer;
the subject is what the answer depends on most. Words are plain ones; two-hop questions join two of the embedded facts.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from quantcliff.atlas import text
from quantcliff.errors import InputError
from quantcliff.probes.rows import Row

PREFIX = "tasks:"

LENGTH = 8
"""Words of a string that is said twice."""

EXAMPLES = 4
"""Of a rule, before it is asked."""

PAIRS = {
    "opposites": "hot cold, big small, up down, left right, fast slow, rich poor, old young, hard soft, dark light, "
    "early late, high low, open closed, full empty, strong weak, day night, happy sad, good bad, black white, wet dry, "
    "long short, true false, first last, inside outside, north south, east west, love hate, war peace, life death, "
    "buy sell, win lose, push pull, start end, near far, clean dirty, cheap expensive, thick thin",
    "plurals": "cat cats, dog dogs, car cars, tree trees, book books, house houses, child children, man men, "
    "woman women, foot feet, tooth teeth, mouse mice, city cities, story stories, baby babies, leaf leaves, "
    "wife wives, life lives, box boxes, bus buses, class classes, day days, key keys, person people, river rivers, "
    "country countries, army armies, church churches, hero heroes, potato potatoes, wolf wolves, knife knives, "
    "star stars, ship ships, king kings, lady ladies",
    "capitals": "France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Greece Athens, "
    "Austria Vienna, Russia Moscow, Japan Tokyo, China Beijing, Egypt Cairo, "
    "Turkey Ankara, Iran Tehran, Iraq Baghdad, Poland Warsaw, Sweden Stockholm, "
    "Norway Oslo, Denmark Copenhagen, Finland Helsinki, Ireland Dublin, Belgium Brussels, "
    "Hungary Budapest, Canada Ottawa, Cuba Havana, Peru Lima, Chile Santiago, Kenya Nairobi, Thailand Bangkok, "
    "Vietnam Hanoi, India Delhi, Syria Damascus, Lebanon Beirut, Ukraine Kyiv, Bulgaria Sofia, Romania Bucharest, "
    "Australia Canberra",
}  # fmt: skip
"""Two words each: what is asked, and the answer."""

FIRST_HOPS = {
    "P19": "the birthplace of [X]", "P20": "the place where [X] died", "P27": "the country of [X]",
    "P159": "the place where [X] is based", "P740": "the place where [X] was formed",
}  # fmt: skip
SECOND_HOPS = ("P17", "P30", "P36", "P131")
"""Country, continent, capital, region: of a place that is itself an answer."""


@dataclass(frozen=True)
class Task:
    """One task. `chance`: what guessing among the answers that are at hand scores, None where `majority` must tell."""

    name: str
    about: str
    chance: float | None
    rows: Callable[[np.random.Generator], Iterator[Row]]


def _strings(draw: np.random.Generator) -> Iterator[Row]:
    """A random string of words, and the same again up to a word."""
    counts = Counter(fact.object for fact in text.load_facts() if " " not in fact.object)
    words = np.array([word for word, _ in counts.most_common(64)])
    while True:
        string = draw.choice(words, LENGTH, replace=False).tolist()
        last = int(draw.integers(2, LENGTH - 1))
        template = " ".join([*string, *string[:last], "[X]", "[Y]"])
        yield Row("induction", string[last], (string[last + 1],), template)


def _rule(name: str) -> Callable[[np.random.Generator], Iterator[Row]]:
    pairs = [tuple(pair.split()) for pair in PAIRS[name].split(", ")]

    def rows(draw: np.random.Generator) -> Iterator[Row]:
        while True:
            *shown, (asked, answer) = (pairs[number] for number in draw.permutation(len(pairs))[: EXAMPLES + 1])
            lines = [f"{word}: {other}" for word, other in shown]
            yield Row(name, asked, (answer,), "\n".join([*lines, "[X]: [Y]"]))

    return rows


def _numbers(draw: np.random.Generator) -> Iterator[Row]:
    """Which of two numbers of two digits is larger; their first digits differ, so that the first token decides."""

    def pair() -> tuple[str, str]:
        tens, ones = draw.choice(np.arange(1, 10), 2, replace=False), draw.integers(0, 10, 2)
        one, two = (f"{ten}{digit}" for ten, digit in zip(tens, ones, strict=True))
        return f"{one} or {two}", max(one, two)

    while True:
        lines = ["Larger of {}: {}".format(*pair()) for _ in range(EXAMPLES)]
        asked, answer = pair()
        yield Row("comparison", asked, (answer,), "\n".join([*lines, "Larger of [X]: [Y]"]))


def _two_hops(draw: np.random.Generator) -> Iterator[Row]:
    """Something about the answer to another question; both are embedded facts. There are so many and no more."""
    facts, relations = text.load_facts(), text.load_relations()
    second = {(fact.relation, fact.subject): fact.object for fact in facts if fact.relation in SECOND_HOPS}
    found = [
        (fact, relation) for fact in facts if fact.relation in FIRST_HOPS
        for relation in SECOND_HOPS if (relation, fact.object) in second
    ]  # fmt: skip
    for number in draw.permutation(len(found)):
        fact, relation = found[number]
        template = relations[relation].templates[0].replace("[X]", FIRST_HOPS[fact.relation])
        yield Row(relation, fact.subject, (second[relation, fact.object],), template)


TASKS = {
    task.name: task
    for task in (
        Task("induction", "go on with a random string of words that was said before", 1 / LENGTH, _strings),
        *(
            Task(name, f"{what}, by {EXAMPLES} examples", 1 / len(PAIRS[name].split(", ")), _rule(name))
            for name, what in {"opposites": "the opposite", "plurals": "the plural", "capitals": "the capital"}.items()
        ),
        Task("comparison", f"the larger of two numbers, by {EXAMPLES} examples", 1 / 2, _numbers),
        Task("two-hop", "a fact about the answer to another", None, _two_hops),
    )
}


def rows(source: str, n: int, seed: int) -> list[Row]:
    """At most n questions of a task, all different, drawn by the seed; fewer are a part of more.

    Raises:
        InputError: there is no such task.
    """
    name = source.removeprefix(PREFIX)
    if name not in TASKS:
        raise InputError(f"there is no task {name!r}; choose one of {', '.join(f'{PREFIX}{task}' for task in TASKS)}")
    found: dict[str, Row] = {}
    for row in TASKS[name].rows(np.random.default_rng(seed)):
        found.setdefault(row.prompt, row)
        if len(found) == n:
            break
    return list(found.values())
