"""Necessity beside sufficiency: which layers does the answer rest on, and are they still the same ones?

A block is silenced at one kind of token: what its attention and its FFN would add to the stream there is set to zero,
and everything above runs on (zero-ablation; arXiv 2604.19884, beside causal patching: at 4 bits the pattern of
dependence is full precision's, at 2 bits there is none). The paper gives no formula. *Chosen* here:

- margin: logit of the right answer less that of another fact's answer of the same relation. A silenced block that
  makes every answer of that kind less likely does not change it.
- dependence: margin of the model left alone less margin with the block silenced, in nats; above 0 the block is needed.
- likeness: Pearson correlation of a model's profile (dependence of all layers and positions) with full precision's.
  Its control is the profile of full precision on *other* prompts: the likeness of one half of the prompts to the other.
"""

from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from quantcliff import stats
from quantcliff.probes import Probes, inside, other_facts, spans
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, batches, own_stream, site

POSITIONS = ("last_subject", "last")
"""Where a block is silenced: where the fact is looked up, and where the answer is read."""


def margins(
    runner: Runner, probes: Probes, wrong: Int[np.ndarray, " prompt"], size: int = 64
) -> Float[np.ndarray, "prompt place"]:
    """Margin of every prompt with each block silenced.

    Args:
        wrong: token id of another fact's answer for each prompt.

    Returns:
        First column: nothing silenced; then, for each of `POSITIONS`, layers 0 to n_layers - 1. NaN where a prompt has
        no such token.
    """
    found = np.full((len(probes), 1 + len(POSITIONS) * runner.n_layers), np.nan)
    right = np.array([row[0] for row in probes.answers])
    where = {name: spans(name, probes.subject, probes.lengths) for name in POSITIONS}
    for batch in tqdm(list(batches(probes, size)), desc=f"silencing {runner.model.name}", leave=False, disable=None):
        stream, rows = own_stream(runner, batch.ids, batch.last), batch.indices
        pair = torch.from_numpy(np.stack([right[rows], wrong[rows]], 1)).to(runner.device)
        start = runner.run(stream[-1], start_layer=runner.n_layers, last=batch.last)[0]
        found[rows, 0] = _margin(start, pair)
        for number, span in enumerate(where.values()):
            mask = torch.from_numpy(inside(span[rows], batch.ids.shape[1])).to(runner.device)[..., None]
            silence = partial(torch.masked_fill, mask=mask, value=0.0)
            there = span[rows, 0] >= 0
            for layer in range(runner.n_layers):
                edits = {site(kind, layer): silence for kind in ("attn_out", "mlp_out")}
                logits = runner.run(stream[layer], edits=edits, start_layer=layer, last=batch.last)[0]
                column = 1 + number * runner.n_layers + layer
                found[rows, column] = np.where(there, _margin(logits, pair), np.nan)
    return found


def _margin(logits: Float[Tensor, "batch vocab"], pair: Int[Tensor, "batch 2"]) -> Float[np.ndarray, " batch"]:
    chosen = logits.gather(-1, pair).double()
    return (chosen[:, 0] - chosen[:, 1]).cpu().numpy()


def likeness(
    own: Float[np.ndarray, "prompt place"],
    full: Float[np.ndarray, "prompt place"],
    seed: int = 0,
    resamples: int = 1000,
) -> stats.Interval:
    """Pearson correlation of two mean profiles over the same prompts, with a 95% bootstrap over prompts.

    NaN where a profile is the same everywhere, so that there is nothing to be alike.
    """
    n = len(own)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    draws = _correlation(weights @ own, weights @ full)
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if not np.isnan(draws).all() else (np.nan, np.nan)
    return stats.Interval(float(_correlation(own.mean(0)[None], full.mean(0)[None])[0]), float(low), float(high))


def _correlation(
    one: Float[np.ndarray, "draw place"], other: Float[np.ndarray, "draw place"]
) -> Float[np.ndarray, " draw"]:
    """Pearson correlation of every row of one with that row of the other."""
    one, other = one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)
    size = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return np.divide((one * other).sum(1), size, out=np.full(len(one), np.nan), where=size > 0)


def measure(study: Study, n_prompts: int = 100) -> pd.DataFrame:
    """Dependence and likeness of every variant and of full precision -> RUN/patching_necessity.parquet.

    On `n_prompts` of the facts that are looked inside, those with a subject and with another fact's answer to compare.

    Returns:
        variant, method, bits, group_size; measure: "margin" (nats, nothing silenced), "dependence" (nats; by positions
        and layer), "likeness" (to full precision on the same prompts; for "full" itself of one half of the prompts to
        the other: the most that can be expected); estimate, low, high (95%, bootstrap over prompts); n (prompts).
        Empty where no fact has a subject.
    """
    asked = study.sample(n_prompts)
    relation = asked.table["relation"].astype(str).tolist()
    other = other_facts(relation, asked.answers, asked.subject, asked.lengths, study.seed)
    chosen = np.flatnonzero((other >= 0) & (asked.subject[:, 0] >= 0))
    probes, wrong = asked.select(chosen), np.array([asked.answers[index][0] for index in other[chosen]], dtype=int)
    found: dict[str, np.ndarray] = {}

    def of(label: str) -> np.ndarray:
        if label not in found:
            found[label] = margins(study.runner(label), probes, wrong)
        return found[label]

    def compute(label: str) -> pd.DataFrame:
        if len(probes) < 2:
            return pd.DataFrame(columns=["measure", "positions", "layer", "estimate", "low", "high", "n"])
        return table_of(of(label), None if label == FULL else of(FULL), study.seed)

    return study.table("patching_necessity", compute, study.labels, n_prompts=n_prompts)


def table_of(
    own: Float[np.ndarray, "prompt place"], full: Float[np.ndarray, "prompt place"] | None, seed: int = 0
) -> pd.DataFrame:
    """The rows of `measure` for one model, given `margins`; `full` None: the model is full precision."""
    n, dependence = len(own), own[:, :1] - own[:, 1:]
    layers = dependence.shape[1] // len(POSITIONS)
    margin, each = stats.bootstrap_mean(own[:, 0], seed), stats.bootstrap_mean(dependence, seed)
    if full is None:
        order = np.random.default_rng(seed).permutation(n)[: n - n % 2]
        alike = likeness(dependence[order[::2]], dependence[order[1::2]], seed)
    else:
        alike = likeness(dependence, full[:, :1] - full[:, 1:], seed)
    rows = [("margin", "none", None, *margin, n), ("likeness", "all", None, *alike, n)]
    for place, numbers in enumerate(zip(*map(np.ravel, each), strict=True)):
        rows.append(("dependence", POSITIONS[place // layers], place % layers, *map(float, numbers), n))
    found = pd.DataFrame(rows, columns=["measure", "positions", "layer", "estimate", "low", "high", "n"])
    return found.astype({"layer": "Int64"})
