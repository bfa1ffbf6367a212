"""Facts as text: a prompt that names its subject and stops before its object, and the objects that answer it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from quantcliff import smollm2
from quantcliff.errors import InputError
from quantcliff.probes import sources, tasks
from quantcliff.probes.rows import Drop, Row

DROPPED = ("relation", "subject", "reason")


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts as text, independent of any tokenizer.

    `rows` has the columns fact (int), relation, subject, objects (list of str), template, prompt, band (Int64, 0 = most
    popular fifth, <NA> if unknown); `dropped` has relation, subject, reason. `lines`: how many lines of the source
    belong to each relation, whether or not they were drawn.
    """

    rows: pd.DataFrame
    dropped: pd.DataFrame
    name: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)


def load(source: str | Path, *, n_facts: int | None = None, seed: int = 0) -> Facts:
    """Read facts and draw `n_facts` of them (None: all).

    Args:
        source: "atlas" (the embedded facts, each in the template it was never trained on, drawn so that at most
            five facts share relation and object), "smollm2" (those that SmolLM2 answers, `knowledge`), a task
            (`tasks`), a ParaRel or LAMA folder, or a file (`files.table`).

    Raises:
        InputError: the source is none of these, a line of it is broken, no fact is left, or `n_facts` is below 1.
    """
    if n_facts is not None and n_facts < 1:
        raise InputError(f"n_facts is {n_facts}; ask for at least one fact")
    rows, drops, lines = sources.find(source, n_facts, seed)
    rows, trivial = (rows, []) if _in_context(source) else _without_trivial(rows)
    if not rows:
        raise InputError(f"{source} holds no fact that can be asked: in every one the object stands in the prompt")
    if n_facts is not None and n_facts < len(rows):
        chosen = np.random.default_rng(seed).permutation(len(rows))[:n_facts]
        rows = [rows[index] for index in sorted(chosen)]
    return Facts(_frame(rows), pd.DataFrame([*drops, *trivial], columns=list(DROPPED)), str(source), lines)


def _in_context(source: str | Path) -> bool:
    """Whether answers may stand in their prompt, since finding them there is what is asked."""
    return str(source).startswith(tasks.PREFIX)


def _frame(rows: list[Row]) -> pd.DataFrame:
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

    A fact of a file keeps its one prompt, and so does a task. Where the object stands in the prompt the
    wording is left out for that fact, and listed in `dropped`.

    Args:
        templates: wordings by relation; None for those of the fact source.
    """
    if _in_context(facts.name):
        return facts
    templates = sources.wordings(facts.name) if templates is None else templates
    numbers, rows = [], []
    for fact in facts.rows.itertuples():
        band = None if pd.isna(fact.band) else int(fact.band)
        for template in templates.get(fact.relation, (fact.template,)):
            numbers.append(fact.fact)
            rows.append(Row(fact.relation, fact.subject, tuple(fact.objects), template, band))
    asked = [any(item.lower() not in row.prompt.lower() for item in row.objects) for row in rows]
    kept, trivial = _without_trivial(rows)
    frame = _frame(kept).assign(fact=[number for number, good in zip(numbers, asked, strict=True) if good])
    return Facts(frame, pd.concat([facts.dropped, pd.DataFrame(trivial, columns=list(DROPPED))]), facts.name)


def _without_trivial(rows: list[Row]) -> tuple[list[Row], list[Drop]]:
    """Leave out objects that stand in their own prompt (case ignored), and facts that have no other."""
    kept, drops = [], []
    for row in rows:
        objects = tuple(item for item in row.objects if item.lower() not in row.prompt.lower())
        if objects:
            kept.append(row._replace(objects=objects))
        else:
            drops.append(Drop(row.relation, row.subject, "trivial: the object stands in the prompt"))
    return kept, drops
