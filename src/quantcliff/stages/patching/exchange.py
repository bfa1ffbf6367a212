"""Cross-model patching: put one model's activations into the other and see whose answer comes out.

Both models read the same prompt: full precision answers, the quantized model may not.

- Forward: full precision's activation goes into the quantized model. If the answer comes back, what lies behind the
  patch still works and the fault lay before it; if not, the parts behind it fail even on clean input.
- Reverse: the quantized activation goes into full precision. If the answer goes, the damage that had arisen up to there
  is enough by itself.
- The control takes the donor's activation from *another* fact: what it brings back is not this fact.

Definitions: arXiv 2604.19884, causal patching across models. The paper gives no formula for averaging; the one chosen
here stands in the docstring of `recovery`.
"""

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import logit

from quantcliff import stats
from quantcliff.probes import POSITIONS, other_facts
from quantcliff.study import FULL, Study
from quantcliff.tracing import SETTERS, Patch, Trace, plan, sweep

NO_PATCH = Patch("none", "none", "none", window=0, layer=-1)
"""Stands for the recipient left alone."""

COLUMNS = ["group", *(field.name for field in fields(Patch)), "measure", "estimate", "low", "high", "n"]

WIDE = ("last_subject", "all")
"""Where windows of layers are patched."""


def recovery(
    patched: Float[np.ndarray, "patch prompt"],
    recipient: Float[np.ndarray, " prompt"],
    donor: Float[np.ndarray, " prompt"],
    *, seed: int = 0, resamples: int = 1000,
) -> Float[np.ndarray, "patch 3"]:  # fmt: skip
    """Share of the way from the recipient's answer probability to the donor's: estimate, low, high per patch.

        recovery = (p_patched - p_recipient) / (p_donor - p_recipient)

    which for the forward direction is (p_patched - p_Q) / (p_FP - p_Q): 0 is the recipient, 1 the donor, below 0 is
    harm; in the reverse direction the share of the damage that the patch carries over.

    *Chosen*: the ratio of the means over prompts, with a 95% bootstrap over prompts (all three probabilities of a
    prompt are drawn together). A mean of ratios would be ruled by the prompts on which both models agree: there the
    denominator is near 0 and of either sign. All three are NaN where the mean gap's own interval reaches 0: then
    there is nothing to recover. Else the few draws (under 1 in 40) whose gap is 0 or of the other sign are left out.
    """
    n = len(donor)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    gap, gain = donor - recipient, patched - recipient
    gaps = weights @ gap
    low, high = np.quantile(gaps, [0.025, 0.975])
    if low <= 0 <= high:
        return np.full((len(patched), 3), np.nan)
    sound = np.sign(gaps) == np.sign(low)
    draws = np.quantile((gain @ weights[sound].T) / gaps[sound], [0.025, 0.975], axis=1)
    return np.stack([gain.mean(axis=1) / gap.mean(), *draws], axis=1)


def interaction(
    forward: Float[np.ndarray, "patch prompt"],
    reverse: Float[np.ndarray, "patch prompt"],
    quantized: Float[np.ndarray, " prompt"],
    full: Float[np.ndarray, " prompt"],
    *, seed: int = 0,
) -> Float[np.ndarray, "patch 3"]:  # fmt: skip
    """Does the damage of the layers up to a patch and of those behind it add up? Estimate, low, high per patch.

    With the whole stream patched after a layer, both models are cut there: forward is clean below and quantized above,
    reverse is quantized below and clean above. With both uncut models that makes a 2 x 2 experiment. For a score s of
    the answer its interaction, in units of the whole loss, is

        (s_FP - s_forward - s_reverse + s_Q) / (s_FP - s_Q) = recovery reversed - recovery forward

    0: either part does its share of the damage, whatever the other does. Above 0, up to 1: either part alone does most
    of it, and making one clean helps little. Below 0: only both together do it. *Chosen* (the paper has no such
    measure); the four scores of a prompt are drawn together, as in `recovery`.
    """
    return recovery(full + 2 * quantized - reverse - forward, quantized, full, seed=seed)


def log_odds(probability: np.ndarray) -> np.ndarray:
    """ln p/(1 - p), for probabilities kept 1e-12 away from 0 and 1."""
    return logit(np.clip(probability.astype(float), 1e-12, 1 - 1e-12))


SCORES = {"interaction": log_odds, "interaction_probability": lambda probability: probability.astype(float)}
"""Measure -> the score of the answer in it. Log-odds have no floor and no ceiling, so that noise that adds up in the
logits has no interaction; a probability has both, and two parts that each press it to 0 interact there by necessity."""


def summarise(
    results: pd.DataFrame, recipient: pd.DataFrame, donor: pd.DataFrame, groups: dict[str, np.ndarray], seed: int = 0
) -> pd.DataFrame:
    """From answers to rates: one row per group of prompts, patch and measure, with a 95% interval and the number n.

    - `recovery`: see `recovery`.
    - `regained`: of the prompts that one model answers and the other does not, the share that now comes out as the
      donor would have it (Wilson). Forward: lost answers that are back; reverse: answers that are gone.
    - `accuracy`: share of all prompts of the group with the answer at rank 1 (Wilson).
    - `rank`: median rank of the answer; see `stats.median`.

    Args:
        results: from `sweep`.
        recipient, donor: `rank` and `probability` of every prompt without a patch, row i <-> prompt i.
        groups: name -> numbers of its prompts.
    """
    rows = []
    for name, members in groups.items():
        mine = results[results["prompt"].isin(members)]
        for _, part in mine.groupby(["positions", "donor"]):
            wide = part.pivot(index=[field.name for field in fields(Patch)], columns="prompt")
            own, other = recipient.loc[wide["rank"].columns], donor.loc[wide["rank"].columns]
            shares = recovery(*(t["probability"].to_numpy(float) for t in (wide, own, other)), seed=seed)
            right, goal = wide["rank"].to_numpy() == 1, (other["rank"] == 1).to_numpy()
            differ = (own["rank"] == 1).to_numpy() != goal
            for patch, share, ranks, now in zip(wide.index, shares, wide["rank"].to_numpy(), right, strict=True):
                found = {
                    "recovery": (*share, len(goal)),
                    "regained": (*stats.share(now[differ] == goal[differ]), int(differ.sum())),
                    "accuracy": (*stats.share(now), len(goal)),
                    "rank": (*stats.median(ranks), len(goal)),
                }
                rows += [(name, *patch, measure, *numbers) for measure, numbers in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def cut_in_two(
    forward: pd.DataFrame, reverse: pd.DataFrame, quantized: pd.DataFrame, full: pd.DataFrame,
    groups: dict[str, np.ndarray], seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """`interaction` of every layer at which the whole stream was patched both ways, with the columns of `summarise`.

    Measures: the keys of `SCORES`.
    """
    rows, cut = [], {"kind": "resid_post", "positions": "all", "donor": "same", "window": 1}
    for name, members in groups.items():
        both = []
        for results in (forward, reverse):
            mine = results[results["prompt"].isin(members) & (results[list(cut)] == pd.Series(cut)).all(axis=1)]
            both.append(mine.pivot(index="layer", columns="prompt", values="probability"))
        if both[0].empty:
            continue
        layers, prompts = both[0].index, both[0].columns
        ends = [scores.loc[prompts, "probability"] for scores in (quantized, full)]
        for measure, score in SCORES.items():
            found = interaction(*(score(part.to_numpy()) for part in (*both, *ends)), seed=seed)
            rows += [(name, *cut.values(), layers[i], measure, *found[i], len(prompts)) for i in range(len(layers))]
    return pd.DataFrame(rows, columns=COLUMNS)


def measure(study: Study, *, n_prompts: int = 150, window: int = 3) -> pd.DataFrame:
    """`measure_variant` of every variant of a study, kept as `RUN/patching.parquet`."""

    def compute(label: str) -> pd.DataFrame:
        return measure_variant(study, label, n_prompts=n_prompts, window=window)

    return study.table("patching", compute, n_prompts=n_prompts, window=window)


def measure_variant(
    study: Study,
    label: str,
    *,
    n_prompts: int = 150,
    window: int = 3,
    kinds: Collection[str] = tuple(SETTERS),
    positions: Collection[str] = POSITIONS,
) -> pd.DataFrame:
    """Patch one variant, forward and reverse.

    Forward: every kind at every position and layer; `attn_out` and `mlp_out` also in windows of layers, at `WIDE`
    positions; the control for `resid_post`. Reverse: `resid_post`. Kinds of position that no prompt has (the subject,
    in a text probe) have no rows. From both together, the `interaction` of the layers below and above each patch, for
    the scores in `SCORES`.

    Args:
        n_prompts: known facts to patch, half of them failures of the reference variant where there are so many.
        window: layers patched together, cut to the model's number of layers.

    Returns:
        The rows of `summarise` and `cut_in_two` for the groups "robust" and "failure", with a column `direction`
        ("forward", "reverse", and "both" for the interaction). Rows of kind "none" are the recipient without a patch.
    """
    known, groups = study.known, study.groups_of(study.variant(label).method)
    failure = groups.loc[groups["known"], "failure"].to_numpy()
    chosen = stats.stratified(failure, n_prompts, study.seed)
    relation = known.table["relation"].astype(str).tolist()
    other = other_facts(relation, known.answers, known.subject, known.lengths, study.seed, chosen)
    asked = np.union1d(chosen, other[other >= 0])  # the patched prompts and those that controls are taken from
    probes, rows = known.select(asked), np.searchsorted(asked, chosen)
    partner = np.where(other[asked] < 0, -1, np.searchsorted(asked, other[asked]))
    members = {"robust": rows[~failure[chosen]], "failure": rows[failure[chosen]]}
    scores = {name: study.known_scores(name).iloc[asked].reset_index(drop=True) for name in (FULL, label)}

    n_layers = study.runner(FULL).n_layers
    stream = [kind for kind in kinds if kind == "resid_post"]
    parts, wide = [kind for kind in kinds if kind not in stream], [where for where in positions if where in WIDE]
    reverse = plan(n_layers, stream, positions)
    forward = plan(n_layers, kinds, positions) + plan(n_layers, stream, positions, donors=["other"])
    forward += plan(n_layers, parts, wide, window=min(window, n_layers))

    def patched(recipient: str, trace: Trace, patches: list[Patch]) -> pd.DataFrame:
        none = scores[recipient].loc[rows, ["rank", "probability"]].assign(prompt=rows, **vars(NO_PATCH))
        results = sweep(study.runner(recipient), trace, probes, rows, partner, sorted(set(patches)))
        return pd.concat([none, results], ignore_index=True)

    with TemporaryDirectory() as folder:
        there = Trace.record(study.runner(label), probes, stream, "all", Path(folder))
        onto, back = patched(label, study.trace(*kinds, probes=probes), forward), patched(FULL, there, reverse)
    tables = {
        "forward": summarise(onto, scores[label], scores[FULL], members, study.seed),
        "reverse": summarise(back, scores[FULL], scores[label], members, study.seed),
        "both": cut_in_two(onto, back, scores[label], scores[FULL], members, study.seed),
    }
    return pd.concat([table.assign(direction=name) for name, table in tables.items()], ignore_index=True)
