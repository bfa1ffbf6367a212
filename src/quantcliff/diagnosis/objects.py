"""Whole objects beside first tokens: does a model go on to say all of the object it begins?

Everything else in this book counts the first token, as the paper does. Of an object of several tokens that is the
easier half: a model that says "New" has not said "New York". Here every token of an object must be the first choice
after the prompt and the tokens before it, which is what greedy decoding writes.
"""

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from quantcliff import stats
from quantcliff.models import Model
from quantcliff.probes import Facts, facts

AT_ONCE = 16
"""Prompts with an object in one pass: logits at every token are large."""


def answered(model: Model, asked: Facts) -> pd.DataFrame:
    """One row for each fact that can be asked: fact, relation, long (no right object is a single token), first and
    whole (whether the first token, and all tokens, of a right object are the model's first choice).

    Raises:
        InputError: no fact can be asked of this tokenizer.
    """
    probes, objects = facts.probe(asked, model.tokenizer), facts.whole_objects(asked, model.tokenizer)
    rows = [(number, ids, end) for number, ids in enumerate(probes.input_ids) for end in objects[number]]
    first, whole = np.zeros(len(probes), dtype=bool), np.zeros(len(probes), dtype=bool)
    rows.sort(key=lambda row: len(row[1]) + len(row[2]))
    for start in tqdm(range(0, len(rows), AT_ONCE), desc=f"asking {model.name}", leave=False, disable=None):
        part = rows[start : start + AT_ONCE]
        for (number, _, _), right in zip(part, _right(model, [(ids, end) for _, ids, end in part]), strict=True):
            first[number] |= right[0]
            whole[number] |= all(right)
    long = [min(map(len, ends)) > 1 for ends in objects]
    return probes.table[["fact", "relation"]].assign(long=long, first=first, whole=whole)


@torch.no_grad()
def _right(model: Model, pairs: list[tuple[list[int], list[int]]]) -> list[list[bool]]:
    """For every prompt and object, which tokens of the object are the first choice."""
    width = max(len(ids) + len(end) for ids, end in pairs)
    batch = torch.tensor([[*ids, *end, *[0] * (width - len(ids) - len(end))] for ids, end in pairs])
    choice = model.hf(batch.to(model.hf.device), use_cache=False).logits.argmax(-1).cpu()
    return [
        [int(choice[row, len(ids) - 1 + place]) == token for place, token in enumerate(end)]
        for row, (ids, end) in enumerate(pairs)
    ]


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Share of facts answered by first token and by whole object, with 95% intervals (Wilson): all of them, those with
    no object of a single token, and every relation."""
    groups = {"all": table, "object of several tokens": table[table["long"]]}
    groups |= {str(name): part for name, part in table.groupby("relation")} if table["relation"].nunique() > 1 else {}
    rows = []
    for name, part in groups.items():
        if len(part):
            told = {way: stats.share(part[way].to_numpy()) for way in ("first", "whole")}
            shown = {way: f"{share:.1%} ({low:.1%} to {high:.1%})" for way, (share, low, high) in told.items()}
            rows.append({"facts asked": name, "n": len(part), "first token": shown["first"], "whole": shown["whole"]})
    return pd.DataFrame(rows)
