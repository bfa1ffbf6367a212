"""Where facts come from: the embedded ones, those that SmolLM2 knows, a published collection, a file of one's own.

Every source gives facts as `Row`s, what was left out, with the reason, and how many lines it has.
"""

import csv
import functools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from quantcliff import smollm2
from quantcliff.atlas import text
from quantcliff.errors import InputError
from quantcliff.probes import files, published, tasks
from quantcliff.probes.rows import Drop, Found, Row

FILES = (".jsonl", ".json", ".csv", ".tsv")

BANDS = 5
"""Facts are cut into fifths by popularity; band 0 holds the most popular."""

LIMIT = 5
"""At most so many embedded facts of one relation share an object, so that guessing it scores near nothing."""


QUESTIONS = 400
"""Of a task, where it is not said how many."""

WORDINGS = 5
"""An odd number, so that most of them is never a tie."""


def find(source: str | Path, n_facts: int | None = None, seed: int = 0) -> Found:
    """What a source holds; only the embedded facts are drawn while they are read.

    Raises:
        InputError: the source is none, or a line of it is broken.
    """
    path = Path(source).expanduser()
    if str(source) == "atlas":
        return atlas(n_facts, seed)
    if str(source) == "smollm2":
        return files.table(smollm2.FACTS)
    if str(source).startswith(tasks.PREFIX):
        rows = tasks.rows(str(source), n_facts or QUESTIONS, seed)
        return Found(rows, [], dict(Counter(row.relation for row in rows)))
    if path.is_dir():
        return published.folder(path)
    if path.is_file() and path.suffix in FILES:
        return files.table(path)
    raise InputError(
        f"{source} is no fact source; give 'atlas', 'smollm2', a task such as 'tasks:induction', a ParaRel or LAMA "
        f"folder, or a file that ends in {', '.join(FILES)}"
    )


def atlas(n_facts: int | None, seed: int) -> Found:
    """The embedded facts in their held-out template, drawn evenly from all popularity bands.

    The draw is nested: fewer facts of the same seed are a subset of more.
    """
    facts, relations = text.load_facts(), text.load_relations()
    used: dict[tuple[str, str], int] = defaultdict(int)
    bands: list[list[Row]] = [[] for _ in range(BANDS)]
    drops = []
    for index in np.random.default_rng(seed).permutation(len(facts)):
        fact = facts[index]
        relation = relations[fact.relation]
        if used[fact.relation, fact.object] == LIMIT:
            reason = f"{LIMIT} facts of this relation with the same object are drawn already"
            drops.append(Drop(fact.relation, fact.subject, reason))
            continue
        used[fact.relation, fact.object] += 1
        template = relation.templates[relation.held_out(fact.subject)]
        band = int(index) * BANDS // len(facts)
        bands[band].append(Row(fact.relation, fact.subject, (fact.object,), template, band))
    longest = max(len(band) for band in bands)
    turns = [band[turn] for turn in range(longest) for band in bands if turn < len(band)]
    return Found(turns[:n_facts], drops, dict(Counter(fact.relation for fact in facts)))


def embedded() -> list[Row]:
    """Every embedded fact, in file order, in the first plain wording of its relation."""
    first = {relation: ways[0] for relation, ways in wordings(smollm2.NAME).items()}
    return [Row(fact.relation, fact.subject, (fact.object,), first[fact.relation]) for fact in text.load_facts()]


def wordings(source: str | Path) -> dict[str, tuple[str, ...]]:
    """All ways to ask for a relation's object, by relation.

    "atlas" has the embedded model's six templates, which are worded so that it must learn them; "smollm2" the five
    plain wordings that SmolLM2 understands best (`training.wordings`); a ParaRel or LAMA folder its patterns that end
    in the object. A file has none: its facts have one prompt each.
    """
    if str(source) == smollm2.NAME:
        return _plain()
    if str(source) == "atlas":
        return {name: relation.templates for name, relation in text.load_relations().items()}
    folder = Path(source).expanduser()
    return published.patterns(folder) if folder.is_dir() else {}


@functools.cache
def _plain() -> dict[str, tuple[str, ...]]:
    """The first `WORDINGS` rows of each relation."""
    ways: dict[str, list[str]] = defaultdict(list)
    with smollm2.WORDINGS.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            ways[row["relation"]].append(row["template"])
    return {name: tuple(rows[:WORDINGS]) for name, rows in ways.items()}
