"""Which facts are dissected: by a rule that was written down before any of them was looked at.

1. Of the facts that full precision answers, a *survivor* is one that the reference model answers too, a *victim* one
   that it does not. The reference is GPTQ's 3-bit model; in a study without it, the first method's model whose bits are
   nearest to 3.
2. A fact is *easy* where full precision gives its answer at least the median probability of all facts that it answers,
   else *hard*.
3. Of each of the four kinds (easy and hard survivors, easy and hard victims) `EACH` facts are drawn in the order of a
   seeded shuffle: first one of each relation, then a second, and so on. No subject comes twice. A kind that has fewer
   gives fewer.

What a model of other bits or of another method does to a fact, and what the lens, patches and attention show, enters
nowhere.
"""

import numpy as np
import pandas as pd

from quantcliff.study import FULL, Study

EACH = 4
"""Facts of each kind."""

NEAREST = 3
"""Bits of the reference."""


def reference(study: Study) -> str:
    """Label of the variant that tells survivors from victims."""
    first = next(iter(study.variants.values())).method
    own = [variant for variant in study.variants.values() if variant.method == first]
    return min(own, key=lambda variant: abs(variant.bits - NEAREST)).label


def choose(study: Study, each: int = EACH) -> pd.DataFrame:
    """The facts to dissect.

    Returns:
        One row a fact: number (among `study.known`), kind ("easy survivor", "hard survivor", "easy victim", "hard
        victim", in this order), full (full precision's probability of the answer).
    """
    full = study.known_scores(FULL)["probability"].to_numpy(float)
    kept = (study.known_scores(reference(study))["rank"] == 1).to_numpy()
    table = study.known.table
    mixed = np.random.default_rng(study.seed).permutation(len(full))
    easy = full >= np.median(full)
    chosen: list[dict[str, object]] = []
    taken: set[str] = set()
    for name, here in {
        "easy survivor": easy & kept, "hard survivor": ~easy & kept, "easy victim": easy & ~kept,
        "hard victim": ~easy & ~kept,
    }.items():  # fmt: skip
        members = pd.Series(mixed[here[mixed]])
        turn = members.groupby(table["relation"].to_numpy()[members]).cumcount()
        found = 0
        for number in members[turn.sort_values(kind="stable").index].tolist():
            subject = str(table["subject"].iloc[number])
            if found == each or (subject and subject in taken):
                continue
            taken.add(subject)
            chosen.append({"number": number, "kind": name, "full": full[number]})
            found += 1
    return pd.DataFrame(chosen, columns=["number", "kind", "full"])
