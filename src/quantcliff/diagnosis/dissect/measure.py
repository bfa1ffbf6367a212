"""What a few facts look like inside every model of a study."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from quantcliff.diagnosis.dissect.choice import choose
from quantcliff.probes import Probes
from quantcliff.stages import logit_lens
from quantcliff.study import FULL, Study
from quantcliff.tracing import plan, sweep

FIRST = 5
"""Words that a model is quoted with: those it finds likeliest."""

SAID, LENS, PATCH, ATTENTION = "said", "lens", "patch", "attention"

COLUMNS = ["fact", "what", "layer", "place", "token", "probability", "rank"]


def facts_of(study: Study) -> pd.DataFrame:
    """The facts that `choose` gives, as the model reads them.

    Returns:
        fact (0-based), kind, relation, subject, prompt, right (the answer), full (full precision's probability of it),
        tokens (of the prompt, a list of strings).
    """
    chosen, decode = choose(study), study.base.tokenizer.decode
    probes = study.known.select(chosen["number"].to_numpy())
    return pd.DataFrame(
        {
            "fact": range(len(chosen)), "kind": chosen["kind"], "relation": probes.table["relation"],
            "subject": probes.table["subject"], "prompt": probes.table["prompt"], "right": probes.table["object"],
            "full": chosen["full"], "tokens": [[str(decode([token])) for token in ids] for ids in probes.input_ids],
        }
    )  # fmt: skip


def measure(study: Study) -> pd.DataFrame:
    """Each of the facts in full precision and in every variant -> RUN/dissect.parquet.

    Returns:
        variant, method, bits, group_size; fact; what; and of the columns layer, place, token, probability and rank
        those that it has:

        - "said": the `FIRST` likeliest next tokens; place (1 is the first choice), token, probability.
        - "lens": what the stream after a layer would say of the answer if it were the last; layer, probability, rank.
        - "patch": clean input at all tokens up to a layer, this model's own layers from there on; layer, probability
          and rank of the answer. Full precision has no such rows.
        - "attention": where the last token looks; layer, place (of the token looked at, 0 is the first), probability
          (mean over heads).
    """
    probes = study.known.select(choose(study)["number"].to_numpy())
    source = "".join(hashlib.sha256(Path(__file__).with_name(name).read_bytes()).hexdigest()[:8]
                     for name in ("measure.py", "choice.py"))  # fmt: skip
    labels = study.labels
    return study.table("dissect", lambda label: _of(study, label, probes), labels, source=source)


def _of(study: Study, label: str, probes: Probes) -> pd.DataFrame:
    parts = [_said(study, label, probes), _lens(study, label, probes), _attention(study, label, probes)]
    if label != FULL:
        parts.append(_patched(study, label, probes))
    found = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    return found.astype({"layer": "Int64", "place": "Int64", "rank": "Int64"})


def _said(study: Study, label: str, probes: Probes) -> pd.DataFrame:
    rows, decode = [], study.base.tokenizer.decode
    streams = torch.from_numpy(np.array(study.last_streams(label, probes)[:, -1]))
    first = torch.softmax(study.runner(label).unembed(streams).double(), -1).topk(FIRST)
    for fact, (values, ids) in enumerate(zip(first.values.tolist(), first.indices.tolist(), strict=True)):
        rows += [(fact, place, str(decode([token])), value)
                 for place, (value, token) in enumerate(zip(values, ids, strict=True), start=1)]  # fmt: skip
    return pd.DataFrame(rows, columns=["fact", "place", "token", "probability"]).assign(what=SAID)


def _lens(study: Study, label: str, probes: Probes) -> pd.DataFrame:
    none: list[list[int]] = [[] for _ in range(len(probes))]
    values = logit_lens.read_recorded(study, label, probes, none)
    fact, layer = np.indices(values["rank"].shape).reshape(2, -1)
    columns = {name: values[name].ravel() for name in ("probability", "rank")}
    return pd.DataFrame({"what": LENS, "fact": fact, "layer": layer, **columns})


def _patched(study: Study, label: str, probes: Probes) -> pd.DataFrame:
    runner, clean = study.runner(label), study.trace("resid_post", probes=probes)
    rows, nobody = np.arange(len(probes)), np.full(len(probes), -1)
    found = sweep(runner, clean, probes, rows, nobody, plan(runner.n_layers, ["resid_post"], ["all"]))
    return found.rename(columns={"prompt": "fact"})[["fact", "layer", "probability", "rank"]].assign(what=PATCH)


def _attention(study: Study, label: str, probes: Probes) -> pd.DataFrame:
    pattern = study.trace("pattern", positions="last", probes=probes, label=label)["pattern"]
    mean = np.asarray(pattern).mean(axis=2)
    fact, layer, place = np.indices(mean.shape).reshape(3, -1)
    read = (place < probes.lengths[fact]) & ~np.isnan(mean.ravel())
    columns = {"fact": fact, "layer": layer, "place": place, "probability": mean.ravel()}
    return pd.DataFrame(columns)[read].assign(what=ATTENTION)
