"""Which facts does a model know? Those it answers under most of their paraphrases.

The rule, written down before it was run: a fact is asked in every wording of its relation (`wordings`); it is known
when the answer's first token has rank 1 in more than half of them. A single lucky wording is no knowledge, and a single
awkward one no ignorance. Nor is a guess: where a wording gets the same answer with "it" or "this person" in place of
the subject, the answer counts as wrong there. Only the full-precision model is asked, so that nothing about
quantization enters the choice. Studies then ask each known fact in one prompt, its relation's first wording, and leave
out those that full precision does not answer there.

To save time every question is first put to the same model in bfloat16, many times faster where a CPU has AMX; an answer
that stands below rank `SIEVE` there is taken as wrong, and float32 decides all others.
"""

import csv
import hashlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from tqdm import tqdm

from quantcliff import disk
from quantcliff.models import Model
from quantcliff.probes import Facts, Probes, sources
from quantcliff.probes import facts as fact_sources
from quantcliff.tracing import batches, rank_of

FIELDS = ("relation", "subject", "objects", "prompt", "answered", "asked")
NOBODY = ("it", "this person")
"""What stands in the subject's place when a wording is asked what it suggests by itself."""

BATCH = 64
SIEVE = 5
"""Rank in bfloat16 up to which float32 is asked; what has rank 1 in float32 stays far above it (`tests`)."""


def select(model: Model, coarse: Model, facts: Facts, work: Path) -> pd.DataFrame:
    """The facts that a model knows, with the columns of `FIELDS`: `objects` joined by "|", `prompt` the one that
    `facts` has, `answered` of `asked` paraphrases right.

    Args:
        model, coarse: full precision in float32 and in bfloat16, neither wrapped by a runner.
        work: folder where each relation's answers are kept, so that a stopped selection goes on from there.
    """
    parts = []
    relations = list(facts.rows.groupby("relation"))
    for relation, rows in tqdm(relations, desc="facts asked, relations", disable=None):
        file = work / f"{relation}-{_key(model, rows, facts.name)}.csv"
        if not file.is_file():
            found = ask(model, coarse, Facts(rows, fact_sources.no_drops(), facts.name))
            with disk.whole(file) as part:
                found.to_csv(part, index=False)
        parts.append(pd.read_csv(file, keep_default_na=False, dtype={"subject": str, "objects": str}))
    return pd.concat(parts, ignore_index=True)


def ask(model: Model, coarse: Model, facts: Facts) -> pd.DataFrame:
    """`select` at one go: paraphrases are asked in turn, and a fact that can no longer be known is asked no more."""
    ways = fact_sources.paraphrases(facts)
    probes = fact_sources.probe(ways, model.tokenizer)
    template = ways.rows.drop_duplicates("prompt").set_index("prompt")["template"][probes.table["prompt"]].to_numpy()
    guess = {way: guesses(model, way) for way in ways.rows["template"].unique()}
    guessed = np.array([bool(guess[way] & set(right)) for way, right in zip(template, probes.answers, strict=True)])
    number = probes.table["fact"].to_numpy()
    turn = probes.table.groupby("fact").cumcount().to_numpy()
    asked = probes.table.groupby("fact").size().reindex(facts.rows["fact"], fill_value=0).to_numpy()
    place = pd.Series(range(len(facts)), index=facts.rows["fact"])[number].to_numpy()
    right, wrong = np.zeros(len(facts), dtype=int), np.zeros(len(facts), dtype=int)
    for k in range(turn.max() + 1):
        open_ones = 2 * (asked - wrong) > asked
        now = np.flatnonzero((turn == k) & open_ones[place])
        answers = ~guessed[now]
        for asked_model, least in ((coarse, SIEVE), (model, 1)):
            answers[answers] = ranks(asked_model, probes.select(now[answers])) <= least
        np.add.at(right, place[now], answers)
        np.add.at(wrong, place[now], ~answers)
    known = facts.rows[2 * right > asked]
    counts = pd.DataFrame({"answered": right, "asked": asked})[2 * right > asked]
    columns = {
        "relation": known["relation"].to_numpy(),
        "subject": known["subject"].to_numpy(),
        "objects": ["|".join(items) for items in known["objects"]],
        "prompt": known["prompt"].to_numpy(),
    }
    return pd.DataFrame(columns).assign(answered=counts["answered"].to_numpy(), asked=counts["asked"].to_numpy())


@torch.no_grad()
def guesses(model: Model, template: str) -> set[int]:
    """First choices of a model that is not told the subject."""
    found = set()
    for nobody in NOBODY:
        prompt = sources.Row("", nobody, (), template).prompt
        ids = torch.tensor([model.tokenizer(prompt[0].upper() + prompt[1:]).input_ids])
        found.add(int(model.hf(ids.to(model.hf.device)).logits[0, -1].argmax()))
    return found


@torch.no_grad()
def ranks(model: Model, probes: Probes) -> Int[np.ndarray, " n"]:
    """`trace.rank_of` every prompt's answer: the head reads last tokens only, and nothing but the rank is computed."""
    found = np.zeros(len(probes), dtype=np.int64)
    head, device = model.hf.get_output_embeddings(), next(model.hf.parameters()).device
    for batch in batches(probes, BATCH):
        stream = model.hf.base_model(batch.ids.to(device), use_cache=False).last_hidden_state
        last = stream[torch.arange(len(batch.ids)), batch.last]
        found[batch.indices] = rank_of(head(last).float(), [probes.answers[index] for index in batch.indices]).cpu()
    return found


def write(model: Model, facts: Facts, known: pd.DataFrame, out: Path, command: str) -> None:
    """The list as a CSV fact file, and beside it a JSON file that says how it was made."""
    with disk.whole(out) as part:
        known.to_csv(part, index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    counts = known.groupby("relation").size()
    about = {
        "command": command,
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "model": model.name,
        "model_digest": model.digest,
        "rule": "rank 1 of the first token in more than half of the wordings, guesses without the subject left out",
        "facts_asked": len(facts),
        "facts_known": len(known),
        "known_by_relation": {str(name): int(count) for name, count in counts.items()},
        "sha256": disk.sha256(out),
    }
    disk.write(out.with_suffix(".json"), json.dumps(about, indent=1) + "\n")


def commit() -> str:
    """The commit of the checkout that this package runs from; empty where it is no checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _key(model: Model, rows: pd.DataFrame, name: str) -> str:
    """Changes with the model, the facts and all their wordings."""
    ways = fact_sources.paraphrases(Facts(rows, fact_sources.no_drops(), name)).rows
    content = [model.digest, NOBODY, SIEVE, ways["prompt"].tolist(), ways["objects"].tolist(), rows["prompt"].tolist()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
