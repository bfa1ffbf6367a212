"""The questions of cause (`questions`), measured on one quantized model beside full precision."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from quantcliff import stats
from quantcliff.probes import Probes
from quantcliff.stages.verdict.pair import Pair
from quantcliff.stages.verdict.rows import Row, layered, nothing, whole
from quantcliff.stats import Interval
from quantcliff.study import FULL
from quantcliff.tracing import one_at_a_time, ranks

COLUMNS = ["signal", "layer", "value", "low", "high", "n", "control", "note"]

FAILS = 0.5
"""Cosine of a component's output with full precision's below which it fails: as the verdict's FFN signal."""


def ask(pair: Pair) -> pd.DataFrame:
    """All questions of one variant: a row without a layer for each, behind it its profile if it has one.

    Returns:
        signal (the question), layer, value, low, high (95%), n, control, note. Where a question cannot be asked its
        value is NaN and the note says why.
    """
    rows = [*forms(pair), *responds(pair), *alone(pair), *inherited(pair), *repair(pair)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"layer": "Int64", "value": float, "control": float})


def forms(pair: Pair) -> list[Row]:
    """`leaning` over the lost answers, or over all that are known where too few are lost; control: full precision."""
    study = pair.study
    probes = study.sample(pair.n_prompts) if pair.few else pair.probes
    own, full = (_leanings(pair, label, probes) for label in (pair.label, FULL))
    if not len(own):
        return [nothing("forms", "no two facts of one relation have different answers")]
    note = f"of all known facts: {pair.few}" if pair.few else "of the lost answers"
    return [whole("forms", stats.bootstrap_mean(own, study.seed), len(own), note) | {"control": float(full.mean())}]


def _leanings(pair: Pair, label: str, probes: Probes) -> Float[np.ndarray, " fact"]:
    """`leaning` of the facts of every relation, by one model; facts without a partner are left out."""
    runner = pair.study.runner(label)
    stream = torch.tensor(pair.study.last_streams(label, probes)[:, -1])
    found = []
    for members in probes.table.groupby("relation", dropna=False, sort=False).indices.values():
        log = torch.log_softmax(runner.unembed(stream[members]).double(), -1)
        own = [probes.answers[index] for index in members]
        score = torch.stack([log[:, list(tokens)].amax(1) for tokens in own], 1).cpu().numpy()
        found.append(leaning(score, own))
    values = np.concatenate(found)
    return values[~np.isnan(values)]


def leaning(score: Float[np.ndarray, "fact fact"], answers: Sequence[Sequence[int]]) -> Float[np.ndarray, " fact"]:
    """How surely prompts lean towards their own answers, beside the other facts of their relation.

    For two facts i and j with different answers a_i and a_j, the pair is right if

        [s_i(a_i) - s_i(a_j)] + [s_j(a_j) - s_j(a_i)] > 0

    where s_i(a) is the log-probability of answer a after prompt i. What a model says whatever it is asked adds the same
    to both brackets with opposite signs, so that it cancels: 1/2 is chance, exactly.

    Args:
        score: row i, column j: s_i(a_j).
        answers: token ids of the right answers; facts that share one are no pair.

    Returns:
        For each fact the share of its pairs that are right, a tie counting one half; NaN where it is in no pair.
    """
    own = np.diag(score)
    double = own[:, None] - score + own[None, :] - score.T
    alike = np.array([[bool(set(one) & set(other)) for other in answers] for one in answers])
    right = np.where(np.isclose(double, 0, atol=1e-9), 0.5, (double > 0).astype(float))
    right[alike] = np.nan
    pairs = (~alike).sum(1)
    return np.where(pairs > 0, np.nansum(right, 1) / np.maximum(pairs, 1), np.nan)


def responds(pair: Pair) -> list[Row]:
    """Lost answers that return with clean input after each layer; as a whole after the last but one."""
    n = pair.n_layers
    if pair.few or n < 2:
        return [nothing("responds", pair.few or "there is one layer only")]
    found = pair.patched
    right = found[found["donor"] == "same"].pivot(index="prompt", columns="layer", values="rank") == 1
    shares = [stats.share(right[layer]) for layer in range(n - 1)]
    rows = layered("responds", list(range(n - 1)), stats.stacked(shares), len(right))
    other = found[(found["donor"] == "other") & (found["layer"] == n - 2)]
    control = float((other["rank"] == 1).mean()) if len(other) else np.nan
    return [
        rows[-1] | {"layer": None, "control": control, "note": _reach([float(one.estimate) for one in shares])},
        *rows,
    ]


def _reach(shares: Sequence[float]) -> str:
    """From which layer on clean input brings back half, in words."""
    below = [layer for layer, value in enumerate(shares) if value < 0.5]
    first = below[-1] + 1 if below else 0
    if first == len(shares):
        return "after no layer does clean input bring back half"
    if first == len(shares) - 1:
        return f"half return with clean input after layer {first}: through 1 quantized layer"
    left = len(shares) - first
    return f"half return with clean input after layer {first} or any later one: through up to {left} quantized layers"


def alone(pair: Pair) -> list[Row]:
    """Known answers that survive with one layer quantized, for every layer; as a whole the worst. Asked of half of the
    prompts, so that the other half can tell what layers chosen by it are worth (`ladder`).
    """
    if pair.n_layers < 2:
        return [nothing("alone", "there is one layer only")]
    probes = pair.halves[0]
    streams = one_at_a_time(pair.full, pair.own, probes)
    shares = [stats.share(ranks(pair.full, stream, probes.answers) == 1) for stream in streams]
    rows = layered("alone", list(range(pair.n_layers)), stats.stacked(shares), len(probes))
    worst = min(range(len(shares)), key=lambda layer: shares[layer].estimate)
    return [rows[worst] | {"layer": None, "control": 1.0, "note": f"layer {worst}, the worst"}, *rows]


def inherited(pair: Pair) -> list[Row]:
    """Share of the attentions and FFNs that fail in place (`FAILS`) that fail on clean input as well.

    The interval counts those whose whole interval on clean input lies below the limit, and those with any of it there.
    Control: the share of them that are below the limit beside another prompt's reading.
    """
    table = pair.components
    rows = table[(table["position"] == "last") & table["head"].isna()]
    rows = rows[rows["measure"].isin(["attn_cosine", "ffn_cosine"])].set_index(["measure", "layer", "condition"])
    place, clean = (rows.xs(condition, level="condition") for condition in ("in_situ", "clean"))
    bad = place["estimate"] < FAILS
    if not bad.any():
        return [nothing("inherited", "no attention and no FFN fails in place")]
    own, all_of = clean.loc[bad.index[bad]], len(place)
    value = Interval(*(float((own[name] < FAILS).mean()) for name in ("estimate", "high", "low")))
    note = f"{int(bad.sum())} of {all_of} attentions and FFNs fail in place, the first in layer {_first(bad)}"
    control = float((own["shuffled"] < FAILS).mean())
    return [whole("inherited", value, int(bad.sum()), note) | {"control": control}]


def _first(bad: pd.Series) -> int:
    return int(bad.index[bad].get_level_values("layer").min())


def repair(pair: Pair) -> list[Row]:
    """Lost answers that return if the first layers (`Pair.n_protected`) run in full precision; control: the last."""
    if pair.few or pair.n_layers < 2:
        return [nothing("repair", pair.few or "there is one layer only")]
    gain, mirror = pair.protected
    words = f"first {pair.n_protected} of {pair.n_layers} layers in full precision"
    return [whole("repair", stats.share(gain), len(gain), words) | {"control": float(mirror.mean())}]
