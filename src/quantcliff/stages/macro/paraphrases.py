"""Is a fact known, or one sentence of it? Every fact asked in all its paraphrases.

Acc@any, Acc@majority and Acc@all (arXiv 2604.19884, macro stage): the share of facts that are answered under at least
one, more than half, and every paraphrase. What lies between any and all is knowledge that depends on how it is asked.
"""

import numpy as np
import pandas as pd

from quantcliff import stats
from quantcliff.probes import facts
from quantcliff.study import Study
from quantcliff.tracing import score

FEWEST = 3
"""Paraphrases that a fact must have, or "most of them" means nothing."""

COLUMNS = ["measure", "estimate", "low", "high", "n"]


def measure(study: Study, n_facts: int = 300) -> pd.DataFrame:
    """One row per variant ("full" included) and measure -> RUN/macro_paraphrases.parquet.

    Args:
        n_facts: facts to ask, drawn from all of the study's that have at least `FEWEST` paraphrases.

    Returns:
        variant, method, bits, group_size; measure (any, majority, all: Wilson; prompts: share of single prompts
        answered, bootstrap over facts); estimate, low, high; n (facts). Empty for a text probe, and where facts come
        with one prompt each.
    """
    if study.parameters.text:
        return study.table("macro_paraphrases", lambda label: pd.DataFrame(columns=COLUMNS), study.labels)
    every = facts.paraphrases(study.facts)
    counts = every.rows["fact"].value_counts()
    enough = np.sort(counts.index[counts >= FEWEST].to_numpy(dtype=int))
    if not len(enough):
        return study.table("macro_paraphrases", lambda label: pd.DataFrame(columns=COLUMNS), study.labels)
    chosen = np.random.default_rng(study.seed).permutation(enough)[:n_facts]
    asked = facts.Facts(every.rows[every.rows["fact"].isin(chosen)], every.dropped, every.name)
    probes = facts.probe(asked, study.base.tokenizer)

    def compute(label: str) -> pd.DataFrame:
        right = score(study.runner(label), probes)["rank"].to_numpy() == 1
        return table_of(right, probes.table["fact"].to_numpy(), study.seed)

    return study.table("macro_paraphrases", compute, study.labels, n_facts=n_facts)


def table_of(right: np.ndarray, fact: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """The rows of `measure` for one model.

    Args:
        right: whether each prompt is answered, (n_prompts,).
        fact: number of the fact it asks for; facts with fewer than `FEWEST` prompts are left out.
    """
    share = pd.Series(right.astype(float)).groupby(fact).agg(["mean", "size"])
    share = share.loc[share["size"] >= FEWEST, "mean"].to_numpy()
    found = {
        "any": stats.share(share > 0),
        "majority": stats.share(share > 0.5),
        "all": stats.share(share == 1),
        "prompts": stats.bootstrap_mean(share, seed),
    }
    return pd.DataFrame([(name, *interval, len(share)) for name, interval in found.items()], columns=COLUMNS)
