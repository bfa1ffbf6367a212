"""The signals of one quantized model beside full precision, measured.

A signal (`signals.SIGNALS`) is one number with a 95% interval, and where it has one its profile over layers. Signals
about lost answers look at those that this model loses, whatever other models do.
"""

import numpy as np
import pandas as pd

from quantcliff import stats
from quantcliff.stages import logit_lens, representations
from quantcliff.stages.verdict.pair import Pair
from quantcliff.stages.verdict.rows import Row, layered, nothing, whole
from quantcliff.stages.verdict.signals import KEPT, RANK_SHARE, SIGNALS
from quantcliff.stats import Interval
from quantcliff.study import FULL

COLUMNS = ["signal", "layer", "value", "low", "high", "n", "perfect", "threshold", "note"]


def gather(pair: Pair) -> pd.DataFrame:
    """All signals of one variant: a row without a layer for each signal, behind it its profile if it has one.

    Returns:
        signal, layer (missing: the signal as a whole), value, low, high (95%), n (prompts), perfect, threshold, note.
        Where a signal does not apply its value is NaN and the note says why. The first row is `KEPT`.
    """
    kept = stats.share(pair.rank == 1)
    first = whole(KEPT, kept, len(pair.rank))
    rows = [first, *answer_rank(pair), *lens(pair), *recovery(pair), *parts(pair), *streams(pair), *repair(pair)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for signal in SIGNALS:
        here = table["signal"] == signal.name
        for column in ("perfect", "threshold"):
            if (value := getattr(signal, column)) is not None:
                table.loc[here, column] = value
    return table.astype({"layer": "Int64", "value": float, "perfect": float, "threshold": float})


def answer_rank(pair: Pair) -> list[Row]:
    """Median rank of all lost answers. Threshold: `RANK_SHARE` of the vocabulary, at least rank 2."""
    threshold = max(2.0, RANK_SHARE * pair.study.base.hf.config.vocab_size)
    ranks = pair.rank[pair.rank > 1]
    if pair.few:
        return [nothing("answer rank", pair.few)]
    return [whole("answer rank", stats.median(ranks), len(ranks)) | {"threshold": threshold}]


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
        return [nothing("lens signal", "no other answer to compare with")]
    signal, goal = (values["probability"][paired] - values["control"][paired] for values in (own, full))
    strength = goal.mean(0)
    layers = np.flatnonzero(strength >= 0.1 * strength.max())
    ratio = _ratio(signal[:, layers], goal[:, layers], pair.study.seed)
    profile = layered("lens signal", layers.tolist(), ratio, int(paired.sum()))
    peak = profile[int(np.argmax(strength[layers]))]
    return [peak | {"layer": None, "note": f"in layer {strength.argmax()}"}, *profile]


def recovery(pair: Pair) -> list[Row]:
    """Patching recovery of the lost answers, every token of the stream after a layer taken from full precision.

    As a whole after the layer that leaves half of the layers to the quantized model; the last layer is left out, since
    nothing is left to it there. The note gives the recovery with another fact's stream.
    """
    name, study = "patching recovery", pair.study
    if pair.few or pair.n_layers < 2:
        return [nothing(name, pair.few or "there is one layer only")]
    found, middle = pair.patched, pair.n_layers // 2 - 1
    donor, recipient = (study.known_scores(label)["probability"].to_numpy()[pair.lost] for label in (FULL, pair.label))

    def shares(rows: pd.DataFrame) -> Interval:
        wide = rows.pivot(index="prompt", columns="layer", values="probability")
        gained = wide.to_numpy() - recipient[wide.index][:, None]
        missing = np.broadcast_to((donor - recipient)[wide.index][:, None], gained.shape)
        return _ratio(gained, missing, study.seed)

    profile = layered(name, list(range(pair.n_layers - 1)), shares(found[found["donor"] == "same"]), len(pair.lost))
    note = f"after layer {middle}"
    if len(mixed := found[(found["donor"] == "other") & (found["layer"] == middle)]):
        note += f"; {np.ravel(shares(mixed).estimate)[0]:.2f} with another fact's stream"
    return [profile[middle] | {"layer": None, "note": note}, *profile]


def parts(pair: Pair) -> list[Row]:
    """Attention and FFN in situ at the last token, means over layers (entropy: the middle third only, as the paper).

    Notes give the value on clean input.
    """
    table, full = pair.components, _by_layer(pair.full_components(), "entropy")
    middle = [layer for layer in full.index if len(full) / 3 <= layer < 2 * len(full) / 3] or [full.index[-1]]
    found: list[Row] = []
    for name, measure in {
        "attention entropy": "entropy", "sign flips": "sign_flips", "Jaccard": "jaccard", "FFN cosine": "ffn_cosine",
    }.items():  # fmt: skip
        own, clean = _by_layer(table, measure), _by_layer(table, measure, "clean")
        if measure == "entropy":
            own, clean = own.loc[middle], clean.loc[middle]
        if own["estimate"].isna().all():
            found.append(nothing(name, "no layer has it"))
            continue
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
            found.append(nothing(name, "the models do not differ"))
            continue
        chance = {"perfect": float(rows["chance"].mean())} if name == "error alignment" else {}
        found += [row | chance for row in _mean(name, rows)]
    return found


def repair(pair: Pair) -> list[Row]:
    """Lost answers that return if the first layers (`Pair.n_protected`) run in full precision: the best that source
    protection, the paper's repair without training, could reach. The note has the same for the last layers.
    """
    if pair.few or pair.n_layers < 2:
        return [nothing("repair gain", pair.few or "there is one layer only")]
    gain, mirror = pair.protected
    note = f"first {pair.n_protected} of {pair.n_layers} layers; the last would bring back {mirror.mean():.0%}"
    return [whole("repair gain", stats.share(gain), len(gain), note)]


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
            found.append(nothing("attention entropy", f"full precision itself has {own:.2f}"))
    return found


def _mean(name: str, rows: pd.DataFrame, note: str = "") -> list[Row]:
    """The mean over layers, its bounds the means of theirs (wide enough however layers hang together), and each."""
    n = int(rows["n"].iloc[0])
    over_all = Interval(*(float(rows[column].mean()) for column in ("estimate", "low", "high")))
    each = Interval(*(rows[column].to_numpy(float) for column in ("estimate", "low", "high")))
    return [whole(name, over_all, n, note), *layered(name, [int(layer) for layer in rows.index], each, n)]
