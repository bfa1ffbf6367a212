"""What is asked of every way to quantize: answers kept, the two deciding questions, attention, repair."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float

from quantcliff import stats
from quantcliff.probes import other_facts
from quantcliff.stages import components
from quantcliff.stages.activations.ways import Way, add
from quantcliff.stages.components.comparison import Key
from quantcliff.stages.verdict import Pair
from quantcliff.stages.verdict.causes import forms, repair
from quantcliff.stages.verdict.questions import answers, mode_of
from quantcliff.stages.verdict.signals import BEST_KEPT
from quantcliff.study import Study
from quantcliff.tracing import Patch, sweep

COLUMNS = ["measure", "estimate", "low", "high", "n", "control"]

MEANS = ("entropy", "sign_flips", "ffn_cosine")
"""Components beside attention's pattern and output, in place, means over layers."""

Row = tuple[object, ...]
"""In the order of `COLUMNS`."""


def measure(study: Study, ways: Sequence[Way], n_prompts: int = 100) -> pd.DataFrame:
    """Every way, measured on the study's known facts -> RUN/activations.parquet.

    Args:
        study: has plainly rounded weights at the bits of the ways.
        n_prompts: facts that are drawn at most where a measure costs much per prompt; as many lost ones.

    Returns:
        way, weights (bits), what, how, bits, measure, estimate, low, high (95%), n, control. Measures: kept; lost_rank
        (median); forms, responds, repair (as the verdict asks them, NaN where nothing is lost); of attention at the
        last token, means over layers, in place and clean: jsd (bits, from full precision's pattern), miss (1 - cosine
        of its output), where (`where`); `MEANS`.
    """
    labels = add(study, ways)
    table = study.table(
        "activations", partial(_rows, study, n_prompts=n_prompts), [labels[way.label] for way in ways],
        n_prompts=n_prompts,
    )  # fmt: skip
    about = {labels[way.label]: (way.label, way.weights, way.what, way.how, way.bits) for way in ways}
    names = ["way", "weights", "what", "how", "bits"]
    front = pd.DataFrame([about[label] for label in table["variant"]], columns=names, index=table.index)
    return pd.concat([front, table[COLUMNS]], axis=1)


def _rows(study: Study, label: str, n_prompts: int) -> pd.DataFrame:
    pair = Pair(study, label, n_prompts, lambda: pd.DataFrame())
    rows = [*_outside(pair), *_inside(pair)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _outside(pair: Pair) -> Iterator[Row]:
    lost = pair.rank[pair.rank > 1]
    yield ("kept", *map(float, stats.share(pair.rank == 1)), len(pair.rank), np.nan)
    yield ("lost_rank", *map(float, stats.median(lost)), len(lost), np.nan)
    for row in (*forms(pair), responds(pair), *repair(pair)):
        yield (row["signal"], row["value"], row["low"], row["high"], row["n"], row.get("control", np.nan))


def asked_again(study: Study, ways: Sequence[Way], n_prompts: int) -> pd.DataFrame:
    """The two deciding questions alone, of more lost answers, where an interval of `measure` held both answers.

    Returns:
        way, and `COLUMNS`: measure ("forms", "responds"), estimate, low, high, n, control.
    """
    labels = add(study, ways)

    def compute(label: str) -> pd.DataFrame:
        pair = Pair(study, label, n_prompts, lambda: pd.DataFrame())
        rows = [*forms(pair), responds(pair)]
        table = pd.DataFrame(rows).rename(columns={"signal": "measure", "value": "estimate"})
        return table.reindex(columns=COLUMNS)

    found = study.table("activations_again", compute, list(labels.values()), n_prompts=n_prompts)
    names = {label: way for way, label in labels.items()}
    return found[COLUMNS].assign(way=found["variant"].map(names))[["way", *COLUMNS]]


def responds(pair: Pair) -> dict[str, object]:
    """`causes.responds` as a whole alone, without its profile over layers, which costs much in a deep model."""
    name, layer = "responds", pair.n_layers - 2
    if pair.few or layer < 0:
        return {"signal": name, "value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    probes, study = pair.probes, pair.study
    relations = probes.table["relation"].astype(str).tolist()
    partner = other_facts(relations, probes.answers, probes.subject, probes.lengths, study.seed)
    patches = [Patch("resid_post", "all", donor, 1, layer) for donor in ("same", "other")]
    trace = study.trace("resid_post", probes=probes)
    found = sweep(pair.own, trace, probes, np.arange(len(probes)), partner, patches)
    right = (found["rank"] == 1).groupby(found["donor"])
    value = stats.share(right.get_group("same"))
    control = float(right.get_group("other").mean()) if "other" in right.groups else np.nan
    return {"signal": name, "value": value.estimate, "low": value.low, "high": value.high, "n": len(probes),
            "control": control}  # fmt: skip


def _inside(pair: Pair) -> Iterator[Row]:
    study = pair.study
    full = components.Recorded.of(pair.full, study.sample(pair.n_prompts), study.run / "trace")
    found = components.side_by_side(full, pair.own, seed=study.seed)
    for condition, words in (("in_situ", "in place"), ("clean", "clean")):
        jsd, cosine = (over_layers(found, condition, name) for name in ("jsd", "attn_cosine"))
        other, far = (over_layers(found, condition, name, True) for name in ("jsd", "attn_cosine"))
        yield _mean(f"jsd, {words}", jsd, study.seed, float(np.nanmean(other)))
        yield _mean(f"miss, {words}", 1 - cosine, study.seed, float(1 - np.nanmean(far)))
        share = stats.bootstrap(jsd, 1 - cosine, statistic=where, seed=study.seed)
        yield (f"where, {words}", *map(float, share), len(jsd), float(where(np.nanmean(other), 1 - np.nanmean(far))))
    for name in MEANS:
        if np.isfinite(values := over_layers(found, "in_situ", name)).any():
            yield _mean(name, values, study.seed)


def where(jsd: Float[np.ndarray, "..."] | float, miss: Float[np.ndarray, "..."] | float, axis: int = 0) -> np.ndarray:
    """Part of the damage to attention that is in where it looks: mean JSD over mean JSD and mean 1 - cosine."""
    top, rest = np.mean(jsd, axis=axis) if np.ndim(jsd) else jsd, np.mean(miss, axis=axis) if np.ndim(miss) else miss
    return np.asarray(top / np.maximum(top + rest, 1e-12))


def over_layers(
    found: Mapping[Key, np.ndarray], condition: str, measure: str, shuffled: bool = False
) -> Float[np.ndarray, " prompt"]:
    """One number a prompt, at the last token: the mean over layers, and heads where it has them."""
    values = found["last", condition, measure, shuffled]
    values = values.reshape(len(values), -1)
    there = np.isfinite(values)
    return np.where(there, values, 0).sum(1) / np.where(there.any(1), there.sum(1), np.nan)


def _mean(name: str, values: Float[np.ndarray, " prompt"], seed: int, control: float = np.nan) -> Row:
    return (name, *map(float, stats.bootstrap_mean(values[np.isfinite(values)], seed)), len(values), control)


def modes(table: pd.DataFrame) -> pd.Series:
    """The mode of every way by the rule of the verdict, by way, in the order of the table of `measure`."""
    found = {}
    for way, rows in table.groupby("way", sort=False):
        values = rows.set_index("measure")
        if values.loc["kept", "estimate"] >= BEST_KEPT:
            found[way] = "intact"
            continue
        asked = values.loc[["forms", "responds"]].reset_index(names="signal")
        asked = asked.rename(columns={"estimate": "value"}).assign(layer=pd.NA, note="")
        found[way] = mode_of(answers(asked))
    return pd.Series(found, name="mode")


def value(table: pd.DataFrame, way: str, name: str, column: str = "estimate") -> float:
    """One number of the table of `measure`; NaN where it has none."""
    rows = table[(table["way"] == way) & (table["measure"] == name)]
    return float(rows[column].iloc[0]) if len(rows) else float("nan")
