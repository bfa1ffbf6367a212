"""Why another fact's activation may bring back more than the right one's: patching's control, with matched donors.

At the prompt's last token, in the first layers, the activation of *another* fact was seen to turn more lost answers
right than the activation of the right fact does. Three explanations, each with its test, written down before any run:

- **Easier donors.** Donors are drawn from all known facts, the patched facts are failures, so the donor's relation may
  be the clearer one. Then donors that are failures themselves ("failure"), or as popular as the fact itself
  ("popular"), bring less. *Explained* if less than half of the excess, beyond the interval; *not* if more than half.
- **Any other state will do.** A failure is chosen for the error that this model makes at this very state, a small one
  that tips a narrow race. Any other state of the same kind draws that error anew. Then the same other fact, read by
  the *quantized* model itself ("quantized"), with nothing clean about it, brings as much. *So* if it keeps more than
  half of the excess, beyond the interval; *not* if less than half.
- **Chosen for having lost.** Then robust facts, chosen for having won, lose by the same patch, beyond the interval.

What none of them decides is open. Gain is the answer's probability with the patch less that without, averaged over
the lower third of the layers; excess is the gain by another fact less that by the right one, in pairs of prompts. Only
facts that have a donor of every kind count, so that all kinds are compared on the same facts.
"""

from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from quantcliff import stats
from quantcliff.probes import Probes
from quantcliff.study import FULL, Study
from quantcliff.tracing import Trace, plan, sweep

KINDS = ("own", "other", "failure", "popular", "quantized")
"""Donors: the right fact; another of its relation; one that is a failure; one as popular; the other fact, read by the
quantized model. All but the last are read in full precision."""

COLUMNS = ["group", "donor", "measure", "layer", "estimate", "low", "high", "n"]


def measure(study: Study, n_prompts: int = 300) -> pd.DataFrame:
    """Patches at the last token by kind of donor, into the reference variant of the first method (4 bits, or the
    reader's own model) -> RUN/patching_donors.parquet.

    Args:
        n_prompts: known facts to patch, half of them failures where there are so many.

    Returns:
        The rows of `table_of`, with variant, method, bits, group_size; empty where no fact has donors of every kind.
    """
    label = next(iter(study.references.values())).label

    def compute(label: str) -> pd.DataFrame:
        gains, members = gains_of(study, label, n_prompts)
        return table_of(gains, members, study.seed) if len(members) else pd.DataFrame(columns=COLUMNS)

    return study.table("patching_donors", compute, [label], n_prompts=n_prompts)


def donors_of(
    probes: Probes, rows: Int[np.ndarray, " chosen"], fit: Bool[np.ndarray, " prompt"], seed: int = 0,
    alike: Int[np.ndarray, " prompt"] | None = None,
) -> Int[np.ndarray, " prompt"]:  # fmt: skip
    """For each of `rows` another fact of the same relation without a right answer in common, most similar in length.

    Args:
        fit: which prompts may be donors.
        alike: a number of each prompt that the donor's must equal.

    Returns:
        Number of the donor, -1 for a prompt that has none and for those not in `rows`.
    """
    draw, relation = np.random.default_rng(seed), probes.table["relation"].astype(str).to_numpy()
    right, found = [set(answers) for answers in probes.answers], np.full(len(probes), -1)
    for row in rows:
        may = fit & (relation == relation[row]) & np.array([right[row].isdisjoint(other) for other in right])
        may &= True if alike is None else alike == alike[row]
        cost = np.abs(probes.lengths - probes.lengths[row]) + draw.random(len(probes))
        if may.any():
            found[row] = np.where(may, cost, np.inf).argmin()
    return found


def gains_of(
    study: Study, label: str, n_prompts: int
) -> tuple[Float[np.ndarray, "kind prompt layer"], Bool[np.ndarray, " prompt"]]:
    """Gain of the answer's probability by every kind of donor and patched layer; which of the prompts are failures.

    NaN for a kind of donor that no prompt has (popularity may be unknown).
    """
    known, groups = study.known, study.groups_of(study.variant(label).method)
    failure = groups.loc[groups["known"], "failure"].to_numpy()
    band, every = known.table["band"], np.ones(len(known), dtype=bool)
    rows = stats.stratified(failure, n_prompts, study.seed)
    other = donors_of(known, rows, every, study.seed)
    donor = {
        "own": np.arange(len(known)),
        "other": other,
        "failure": donors_of(known, rows, failure, study.seed),
        "popular": donors_of(known, rows, band.notna().to_numpy(), study.seed, band.fillna(-1).to_numpy(int)),
        "quantized": other,
    }
    kinds = [kind for kind in KINDS if (donor[kind][rows] >= 0).any()]
    rows = rows[np.all([donor[kind][rows] >= 0 for kind in kinds], axis=0)]
    n_layers = study.runner(FULL).n_layers
    if not len(rows):
        return np.zeros((len(KINDS), 0, n_layers)), failure[rows]
    asked = np.unique(np.concatenate([donor[kind][rows] for kind in kinds]))
    probes, here = known.select(asked), np.searchsorted(asked, rows)
    patches = plan(n_layers, ["resid_post"], ["last"], donors=["other"])
    before = study.known_scores(label)["probability"].to_numpy()[rows]
    gains = []
    with TemporaryDirectory() as folder:
        traces = {
            name: Trace.record(study.runner(name), probes, ["resid_post"], "all", Path(folder) / name)
            for name in (FULL, label)
        }
        for kind in KINDS:
            if kind not in kinds:
                gains.append(np.full((len(rows), n_layers), np.nan))
                continue
            partner = np.full(len(asked), -1)
            partner[here] = np.searchsorted(asked, donor[kind][rows])
            trace = traces[label if kind == "quantized" else FULL]
            found = sweep(study.runner(label), trace, probes, here, partner, patches)
            after = found.pivot(index="prompt", columns="layer", values="probability").loc[here].to_numpy()
            gains.append(after - before[:, None])
    return np.stack(gains), failure[rows]


def table_of(
    gains: Float[np.ndarray, "kind prompt layer"], failure: Bool[np.ndarray, " prompt"], seed: int = 0
) -> pd.DataFrame:
    """From gains to means with 95% bootstrap intervals over prompts, for failures and the rest.

    Measures: `gain` by layer, and over the lower third of the layers (layer missing): `gain`, `excess` (less that by
    "own"), `over_half` (excess less half of that of "other": above 0, a kind keeps more than half of it).
    """
    lower = gains[:, :, : ceil(gains.shape[2] / 3)].mean(2)
    excess = lower - lower[KINDS.index("own")]
    half = excess - excess[KINDS.index("other")] / 2
    rows: list[tuple[object, ...]] = []
    for group, mine in {"failure": failure, "robust": ~failure}.items():
        if mine.sum() < 2:
            continue
        for number, kind in enumerate(KINDS):
            if np.isnan(gains[number]).any():
                continue
            found = stats.bootstrap_mean(gains[number][mine], seed)
            each = zip(*map(np.ravel, found), strict=True)
            rows += [(group, kind, "gain", layer, *map(float, one), mine.sum()) for layer, one in enumerate(each)]
            for name, values in {"gain": lower, "excess": excess, "over_half": half}.items():
                one = map(float, stats.bootstrap_mean(values[number][mine], seed))
                rows.append((group, kind, name, None, *one, mine.sum()))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"layer": "Int64"})


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """What the rules of this module say of a table: question, answer ("yes", "no", "open"), and the number it rests on.

    The answers about explanations are "open" where there is no excess to explain.
    """
    whole = table[table["layer"].isna()].set_index(["group", "donor", "measure"])[["estimate", "low", "high"]]

    def signed(group: str, donor: str, name: str, below: str, above: str) -> tuple[str, float, float, float]:
        none = pd.Series(np.nan, whole.columns)
        one = whole.loc[(group, donor, name)] if (group, donor, name) in whole.index else none
        said = below if one["high"] < 0 else above if one["low"] > 0 else "open"
        return said, one["estimate"], one["low"], one["high"]

    found = {
        "another fact brings back more": signed("failure", "other", "excess", "no", "yes"),
        "donors that are failures bring less than half": signed("failure", "failure", "over_half", "yes", "no"),
        "donors as popular bring less than half": signed("failure", "popular", "over_half", "yes", "no"),
        "read by the quantized model, more than half": signed("failure", "quantized", "over_half", "no", "yes"),
        "robust facts lose by it": signed("robust", "other", "gain", "yes", "no"),
    }  # fmt: skip
    rows = [(question, *one) for question, one in found.items()]
    made = pd.DataFrame(rows, columns=["question", "answer", "estimate", "low", "high"])
    if made.loc[0, "answer"] != "yes":
        made.loc[1:3, "answer"] = "open"
    return made
