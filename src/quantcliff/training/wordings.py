"""Which wordings does a model understand? A pool of them, put in order by what full precision answers.

A prompt such as "What is the capital of France? The answer is" may be followed by a colon, and "The religion of Bede
is" by "a": the model is not wrong, it is not asked. So each relation has a pool of wordings (plain sentences, a fact
sheet, questions, and the embedded model's own templates), all tried on `SAMPLE` facts of the relation; the five with
the most right answers are used, the best of them in studies. Only full precision is asked, so that nothing about
quantization enters the choice. ParaRel's sentences are not among them.
"""

import pandas as pd
from tqdm import tqdm

from quantcliff.models import Model
from quantcliff.probes import Facts, facts
from quantcliff.training.knowledge import ranks

SAMPLE = 40
"""Facts of each relation that wordings are tried on."""

SEED = 0


def rate(model: Model, pool: pd.DataFrame) -> pd.DataFrame:
    """The pool (relation, template) with a column `right`, answers of rank 1 out of `SAMPLE`; best first, by relation.

    Facts that have the object in the prompt count as not answered.
    """
    sample = facts.embedded().rows.groupby("relation", group_keys=False).sample(SAMPLE, random_state=SEED)
    parts = []
    for relation, group in tqdm(pool.groupby("relation", sort=False), desc="wordings tried", disable=None):
        asked = Facts(sample[sample["relation"] == relation], facts.no_drops(), "embedded")
        counts = [right(model, asked, template) for template in group["template"]]
        parts.append(group.assign(right=counts).sort_values("right", ascending=False, kind="stable"))
    return pd.concat(parts, ignore_index=True)


def right(model: Model, asked: Facts, template: str) -> int:
    """How many facts of one relation are answered in this wording."""
    relation = asked.rows["relation"].iloc[0]
    ways = facts.paraphrases(asked, {relation: (template,)})
    return int((ranks(model, facts.probe(ways, model.tokenizer)) == 1).sum())
