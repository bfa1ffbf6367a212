"""The signals of one quantized model beside full precision, measured.

A signal (`signals.SIGNALS`) is one number with a 95% interval, and where it has one its profile over layers. Signals
about lost answers look at those that this model loses, whatever other models do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from quantcliff import stats
from quantcliff.probes import other_facts
from quantcliff.stages import components, logit_lens, representations
from quantcliff.stages.verdict.signals import KEPT, RANK_SHARE, SIGNALS
from quantcliff.stats import Interval
from quantcliff.study import FULL, Study
from quantcliff.tracing import plan, ranks, relay, sweep

FEWEST_LOST = 10
"""Lost answers below which a signal about them does not apply."""

PROTECTED_SHARE = 2 / 32
"""Share of the layers that repair keeps in full precision: the paper's first 2 of 32, in proportion, at least 1."""

COLUMNS = ["signal", "layer", "value", "low", "high", "n", "perfect", "threshold", "note"]


@dataclass(frozen=True, eq=False)
class Pair:
    """One variant of a study beside full precision, and the prompts its signals are taken from.

    `n_prompts`: facts of `study.inside`, and lost ones, that are drawn at most where a signal costs much per prompt.
    `full_components`: the table of `components.of_variant` of full precision, with as many prompts.
    """

    study: Study
    label: str
    n_prompts: int
    full_components: Callable[[], pd.DataFrame]

    @cached_property
    def rank(self) -> Int[np.ndarray, " known"]:
        """Of the answers to the known facts."""
        return self.study.known_scores(self.label)["rank"].to_numpy()

    @cached_property
    def lost(self) -> Int[np.ndarray, " lost"]:
        """Numbers, among the known facts, of those this variant gets wrong; at most `n_prompts`, drawn at random."""
        wrong = np.flatnonzero(self.rank > 1)
        return np.sort(np.random.default_rng(self.study.seed).permutation(wrong)[: self.n_prompts])

    @property
    def few(self) -> str:
        """Why a signal about lost answers does not apply; "" where it does."""
        return "" if len(self.lost) >= FEWEST_LOST else f"only {len(self.lost)} answers are lost"


def gather(pair: Pair) -> pd.DataFrame:
    """All signals of one variant: a row without a layer for each signal, behind it its profile if it has one.

    Returns:
        signal, layer (missing: the signal as a whole), value, low, high (95%), n (prompts), perfect, threshold, note.
        Where a signal does not apply its value is NaN and the note says why. The first row is `KEPT`.
    """
    kept = stats.share(pair.rank == 1)
    first = _whole(KEPT, kept, len(pair.rank))
    rows = [first, *answer_rank(pair), *lens(pair), *recovery(pair), *parts(pair), *streams(pair), *repair(pair)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for signal in SIGNALS:
        here = table["signal"] == signal.name
        for column in ("perfect", "threshold"):
            if (value := getattr(signal, column)) is not None:
                table.loc[here, column] = value
    return table.astype({"layer": "Int64", "value": float, "perfect": float, "threshold": float})


Row = dict[str, Any]


def answer_rank(pair: Pair) -> list[Row]:
    """Median rank of all lost answers. Threshold: `RANK_SHARE` of the vocabulary, at least rank 2."""
    threshold = max(2.0, RANK_SHARE * pair.study.base.hf.config.vocab_size)
    ranks = pair.rank[pair.rank > 1]
    if pair.few:
        return [_nothing("answer rank", pair.few)]
    return [_whole("answer rank", stats.median(ranks), len(ranks)) | {"threshold": threshold}]


def lens(pair: Pair) -> list[Row]:
    """The variant's lens signal (answer's probability less that of another fact's answer) over full precision's.

    As a whole in the layer where full precision's is largest; layers with less than a tenth of that are left out,
    since there is nothing to lose yet.
    """
    known = pair.study.sample(pair.n_prompts)
    control = logit_lens.shuffled_answers(known, pair.study.seed)
    own, full = (logit_lens.read_recorded(pair.study, label, known, control) for label in (pair.label, FULL))
    paired = ~np.isnan(full["control"]).any(1)
    if not paired.any():
        return [_nothing("lens signal", "no other answer to compare with")]
    signal, goal = (values["probability"][paired] - values["control"][paired] for values in (own, full))
    strength = goal.mean(0)
    layers = np.flatnonzero(strength >= 0.1 * strength.max())
    ratio = _ratio(signal[:, layers], goal[:, layers], pair.study.seed)
    profile = _profile("lens signal", layers.tolist(), ratio, int(paired.sum()))
    peak = profile[int(np.argmax(strength[layers]))]
    return [peak | {"layer": None, "note": f"in layer {strength.argmax()}"}, *profile]


def recovery(pair: Pair) -> list[Row]:
    """Patching recovery of the lost answers, every token of the stream after a layer taken from full precision.

    As a whole after the layer that leaves half of the layers to the quantized model; the last layer is left out, since
    nothing is left to it there. The note gives the recovery with another fact's stream.
    """
    name, study = "patching recovery", pair.study
    n_layers = study.runner(FULL).n_layers
    if pair.few or n_layers < 2:
        return [_nothing(name, pair.few or "there is one layer only")]
    probes, middle = study.known.select(pair.lost), n_layers // 2 - 1
    relations = probes.table["relation"].astype(str).tolist()
    partner = other_facts(relations, probes.answers, probes.subject, probes.lengths, study.seed)
    patches = [patch for patch in plan(n_layers, ["resid_post"], ["all"]) if patch.layer < n_layers - 1]
    control = [patch for patch in plan(n_layers, ["resid_post"], ["all"], ["other"]) if patch.layer == middle]
    trace, rows = study.trace("resid_post", probes=probes), np.arange(len(probes))
    found = sweep(study.runner(pair.label), trace, probes, rows, partner, patches + control)
    donor, recipient = (study.known_scores(label)["probability"].to_numpy()[pair.lost] for label in (FULL, pair.label))

    def shares(rows: pd.DataFrame) -> Interval:
        wide = rows.pivot(index="prompt", columns="layer", values="probability")
        gained = wide.to_numpy() - recipient[wide.index][:, None]
        missing = np.broadcast_to((donor - recipient)[wide.index][:, None], gained.shape)
        return _ratio(gained, missing, study.seed)

    profile = _profile(name, list(range(n_layers - 1)), shares(found[found["donor"] == "same"]), len(probes))
    note = f"after layer {middle}"
    if len(mixed := found[found["donor"] == "other"]):
        note += f"; {np.ravel(shares(mixed).estimate)[0]:.2f} with another fact's stream"
    return [profile[middle] | {"layer": None, "note": note}, *profile]


def parts(pair: Pair) -> list[Row]:
    """Attention and FFN in situ at the last token, means over layers (entropy: the middle third only, as the paper).

    Notes give the value on clean input.
    """
    table = components.of_variant(pair.study, pair.label, pair.n_prompts)
    full = _by_layer(pair.full_components(), "entropy")
    middle = [layer for layer in full.index if len(full) / 3 <= layer < 2 * len(full) / 3] or [full.index[-1]]
    found: list[Row] = []
    for name, measure in {
        "attention entropy": "entropy", "sign flips": "sign_flips", "Jaccard": "jaccard", "FFN cosine": "ffn_cosine",
    }.items():  # fmt: skip
        own, clean = _by_layer(table, measure), _by_layer(table, measure, "clean")
        if measure == "entropy":
            own, clean = own.loc[middle], clean.loc[middle]
        found += _mean(name, own, f"{clean['estimate'].mean():.2f} on clean input")
        if measure == "entropy":
            found = _against(found, full["estimate"], middle)
    return found


def streams(pair: Pair) -> list[Row]:
    """Residual streams at the last token, layer by layer, means removed, means over layers."""
    table = representations.compare(pair.study, pair.label, n_blocks=10, diagonal=True)
    same = table[(table["layer_fp"] == table["layer_q"]) & table["centred"]]
    found = []
    names = {"CKA diagonal": "cka_debiased", "subspace": "subspace", "error alignment": "error_share"}
    for name, measure in names.items():
        rows = same[same["measure"] == measure].set_index("layer_fp").sort_index()
        rows = rows[rows["estimate"].notna()]
        if rows.empty:
            found.append(_nothing(name, "the models do not differ"))
            continue
        chance = {"perfect": float(rows["chance"].mean())} if name == "error alignment" else {}
        found += [row | chance for row in _mean(name, rows)]
    return found


def repair(pair: Pair) -> list[Row]:
    """Lost answers that return if the first layers (`PROTECTED_SHARE`) run in full precision: the best that source
    protection, the paper's repair without training, could reach. The note has the same for the last layers.
    """
    study = pair.study
    n_layers = study.runner(FULL).n_layers
    n = max(1, round(PROTECTED_SHARE * n_layers))
    if pair.few or n_layers < 2:
        return [_nothing("repair gain", pair.few or "there is one layer only")]
    full, own, lost = study.runner(FULL), study.runner(pair.label), study.known.select(pair.lost)
    first = relay(full, own, [n], lost)[n]
    last = relay(own, full, [n_layers - n], lost)[n_layers - n]
    gain, mirror = (ranks(own, stream[:, -1], lost.answers) == 1 for stream in (first, last))
    note = f"first {n} of {n_layers} layers; the last {n} would bring back {mirror.mean():.0%}"
    return [_whole("repair gain", stats.share(gain), len(gain), note)]


def _ratio(a: np.ndarray, b: np.ndarray, seed: int) -> Interval:
    """Mean of `a` over mean of `b`, both (prompt, layer), with a bootstrap interval over prompts."""
    return stats.bootstrap(a, b, statistic=lambda a, b, axis: a.mean(axis) / b.mean(axis), seed=seed)


def _by_layer(table: pd.DataFrame, measure: str, condition: str = "in_situ") -> pd.DataFrame:
    rows = table[(table["measure"] == measure) & (table["condition"] == condition) & (table["position"] == "last")]
    return rows[rows["head"].isna()].set_index("layer").sort_index()


def _against(rows: list[Row], full: pd.Series, middle: list[int]) -> list[Row]:
    """Entropy rows with full precision's own as `perfect`; those where that is over the threshold already drop out."""
    limit = next(signal.threshold for signal in SIGNALS if signal.name == "attention entropy")
    assert limit
    found = []
    for row in rows:
        own = float(full[middle].mean() if row["layer"] is None else full[row["layer"]])
        if own < limit:
            found.append(row | {"perfect": own})
        elif row["layer"] is None:
            found.append(_nothing("attention entropy", f"full precision itself has {own:.2f}"))
    return found


def _mean(name: str, rows: pd.DataFrame, note: str = "") -> list[Row]:
    """The mean over layers, its bounds the means of theirs (wide enough however layers hang together), and each."""
    n = int(rows["n"].iloc[0])
    whole = Interval(*(float(rows[column].mean()) for column in ("estimate", "low", "high")))
    each = Interval(*(rows[column].to_numpy(float) for column in ("estimate", "low", "high")))
    return [_whole(name, whole, n, note), *_profile(name, [int(layer) for layer in rows.index], each, n)]


def _profile(name: str, layers: list[int], values: Interval, n: int) -> list[Row]:
    rows = zip(layers, *(np.ravel(part) for part in values), strict=True)
    return [dict(zip(COLUMNS[:6], (name, int(row[0]), *row[1:], n), strict=True)) | {"note": ""} for row in rows]


def _whole(name: str, value: Interval, n: int, note: str = "") -> Row:
    return dict(zip(COLUMNS[:6], (name, None, *map(float, value), n), strict=True)) | {"note": note}


def _nothing(name: str, why: str) -> Row:
    return _whole(name, Interval(np.nan, np.nan, np.nan), 0, why)
