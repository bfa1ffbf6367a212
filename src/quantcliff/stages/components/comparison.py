"""Stage 4: do attention and FFN of a quantized model still do their work?

Each component is measured twice. *In situ*: the quantized model runs on its own stream, so a component also inherits
the damage done below it. *On clean input*: every attention and every FFN of the quantized model reads the residual
stream that full precision has at that place, so what is left is the component's own failure. Source: arXiv 2604.19884,
component analysis; where its formula is not published, a docstring says what was chosen.

The measures themselves stand in `components_measures`, what they are taken from in `readings`, what one quantized part
costs by itself in `components_sensitivity`.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from quantcliff import stats
from quantcliff.probes import spans
from quantcliff.quantizers import unsmoothed
from quantcliff.stages.components.measures import (
    chance_overlap,
    cosine,
    jensen_shannon,
    normalised_entropy,
    sign_flips,
    top_overlap,
)
from quantcliff.stages.components.readings import POSITIONS, Reading, Recorded, read
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, batches

CONDITIONS = ("in_situ", "clean")

Key = tuple[str, str, str, bool]
"""Position, condition, measure, and whether full precision's side is another prompt."""

COMPONENT = {
    "entropy": "attention", "jsd": "attention", "attn_cosine": "attention",
    "sign_flips": "ffn", "jaccard": "ffn", "ffn_cosine": "ffn",
}  # fmt: skip
"""Every measure and the component it speaks of. `entropy` is the quantized model's own; the others set it beside full
precision."""


PERFECT = {"jsd": 0.0, "attn_cosine": 1.0, "sign_flips": 0.0, "jaccard": 1.0, "ffn_cosine": 1.0}
"""Value of a measure for a component that does exactly what it does in full precision."""


NUMBERS = ("estimate", "low", "high", "shuffled", "chance")
COLUMNS = ("component", "measure", "condition", "position", "layer", "head", *NUMBERS[:3], "n", *NUMBERS[3:])


def compare(full: Reading, own: Reading, share: float) -> dict[str, Float[Tensor, "prompt layer *head"]]:
    """Every measure that sets a model beside full precision, by name; `jsd` comes per head."""
    return {
        "jsd": jensen_shannon(full.pattern, own.pattern),
        "attn_cosine": cosine(full.attn_out, own.attn_out),
        "sign_flips": sign_flips(full.gate, own.gate),
        "jaccard": top_overlap(full.post, own.post, share),
        "ffn_cosine": cosine(full.mlp_out, own.mlp_out),
    }


def partners(n_keys: Int[Tensor, " prompt"], generator: torch.Generator) -> Int[Tensor, " prompt"]:
    """For each prompt another one, drawn at random, whose token sees as many keys; -1 where there is none."""
    partner = torch.full_like(n_keys, -1)
    for keys in n_keys.unique():
        group = torch.nonzero(n_keys == keys).flatten()
        if len(group) > 1:
            group = group[torch.randperm(len(group), generator=generator)]
            partner[group] = group.roll(1)
    return partner


def side_by_side(
    full: Recorded, own: Runner | None, *, share: float = 0.01, size: int = 32, seed: int = 0
) -> dict[Key, Float[np.ndarray, "prompt layer *head"]]:
    """All measures of a model beside full precision, prompt by prompt; memory grows with `size`, not with the prompts.

    Args:
        own: in the units of full precision (`smoothing.unsmoothed`), or AWQ's scales would count as damage to neurons;
            None for full precision itself, which need not run again.
        size: prompts per batch.
        seed: draws the other prompts.

    Returns:
        Arrays by `Key`; shuffled ones set the model beside full precision's reading of another prompt, the level that a
        measure has without any likeness of content. NaN where a prompt has no subject, or no partner.
    """
    draw, probes = torch.Generator().manual_seed(seed), full.probes
    where = {name: spans(name, probes.subject, probes.lengths)[:, 1] for name in POSITIONS}
    found: dict[Key, np.ndarray] = {}

    def keep(key: Key, rows: np.ndarray, values: Tensor) -> None:
        if key not in found:
            found[key] = np.full((len(probes), *values.shape[1:]), np.nan, dtype=np.float32)
        found[key][rows] = values.numpy()

    name = own.model.name if own else FULL
    for batch in tqdm(list(batches(probes, size)), desc=f"components {name}", leave=False, disable=None):
        tokens = {
            name: torch.from_numpy(at[batch.indices]) for name, at in where.items() if (at[batch.indices] >= 0).any()
        }
        width = batch.ids.shape[1]
        if own:
            clean = full.clean(batch.indices, width)
            ours = {"in_situ": read(own, batch, tokens), "clean": read(own, batch, tokens, clean)}
        for position, at in tokens.items():
            rows, n_keys = batch.indices[at.numpy() >= 0], at[at >= 0] + 1
            theirs, partner = full.reading(position, rows, width), partners(n_keys, draw)
            paired = torch.nonzero(partner >= 0).flatten()
            for condition in CONDITIONS:
                reading, key = ours[condition][position] if own else theirs, (position, condition)
                entropy = normalised_entropy(reading.pattern, n_keys[:, None, None])
                keep((*key, "entropy", False), rows, entropy)
                for measure, values in compare(theirs, reading, share).items():
                    keep((*key, measure, False), rows, values)
                for measure, values in compare(theirs.rows(partner[paired]), reading.rows(paired), share).items():
                    keep((*key, measure, True), rows[paired.numpy()], values)
    return found


def table_of(found: Mapping[Key, np.ndarray], chance: Mapping[str, float], seed: int = 0) -> pd.DataFrame:
    """Means over prompts with 95% bootstrap intervals, from what `side_by_side` found.

    Columns: component, measure, condition, position, layer, head (<NA>: mean over heads, or a measure without heads),
    estimate, low, high, n (prompts), shuffled (the mean beside another prompt), chance (of random activations). NaN in
    layers that have no such site; a measure that has no value anywhere is left out.
    """
    parts = []
    for (position, condition, measure, shuffled), values in found.items():
        if shuffled or np.isnan(values).all():
            continue
        values, heads = _with_mean(values)
        other = found.get((position, condition, measure, True))
        layers, n_heads = values.shape[1:]
        there, values = _filled(values)
        mean = np.nanmean if np.isnan(values).any() else np.mean  # the second is twice as fast
        at = [np.where(there, part, np.nan) for part in stats.bootstrap(values, statistic=mean, seed=seed)]
        baseline: float | np.ndarray = np.nan
        if other is not None:
            paired, beside = _filled(_with_mean(other)[0])
            baseline = np.where(paired, np.nanmean(beside, 0), np.nan).ravel()
        parts.append(
            pd.DataFrame(
                {
                    "component": COMPONENT[measure], "measure": measure, "condition": condition, "position": position,
                    "layer": np.repeat(np.arange(layers), n_heads),
                    "head": pd.array(heads * layers, dtype="Int64"),
                    **dict(zip(("estimate", "low", "high"), map(np.ravel, at), strict=True)),
                    "n": np.repeat((~np.isnan(values[:, :, 0])).sum(0) * there[:, 0], n_heads),
                    "shuffled": baseline, "chance": chance.get(measure, np.nan),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def absent(found: Mapping[Key, np.ndarray]) -> pd.DataFrame:
    """The rows, in the columns of `table_of`, of measures that have no value anywhere: NaN for each layer."""
    rows = [
        {"component": COMPONENT[measure], "measure": measure, "condition": condition, "position": position,
         "layer": layer, "head": pd.NA, "n": 0}
        for (position, condition, measure, shuffled), values in found.items()
        if not shuffled and np.isnan(values).all()
        for layer in range(values.shape[1])
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS).astype({"head": "Int64"} | dict.fromkeys(NUMBERS, float))


def _filled(values: Float[np.ndarray, "prompt layer head"]) -> tuple[Bool[np.ndarray, "layer head"], np.ndarray]:
    """Where any prompt has a value, and the values with 0 where none has: a layer without such a site."""
    there = ~np.isnan(values).all(0)
    return there, np.where(there, values, 0.0)


def _with_mean(values: np.ndarray) -> tuple[np.ndarray, list[int | None]]:
    """(prompt, layer, head) with the mean over heads put last; a measure without heads is its own mean."""
    if values.ndim == 2:
        return values[:, :, None], [None]
    return np.concatenate([values, values.mean(-1, keepdims=True)], -1), [*range(values.shape[2]), None]


def of_variant(study: Study, label: str, n_prompts: int = 400, share: float = 0.01) -> pd.DataFrame:
    """`table_of` for one variant, or "full", on at most `n_prompts` of `study.inside`; nothing is written."""
    full = study.runner(FULL)
    overlap = chance_overlap(full.d_ffn, share) if full.d_ffn else np.nan
    theirs = Recorded.of(full, study.sample(n_prompts), study.run / "trace")
    own = None if label == FULL else Runner(unsmoothed(study.base, study.model(label)))
    chance = {"sign_flips": 0.5, "jaccard": overlap, "attn_cosine": 0.0, "ffn_cosine": 0.0}
    found = side_by_side(theirs, own, share=share, seed=study.seed)
    table, nothing = table_of(found, chance, study.seed), absent(found)
    return pd.concat([table, nothing], ignore_index=True) if len(nothing) else table


def measure(study: Study, n_prompts: int = 400, share: float = 0.01) -> pd.DataFrame:
    """The components of full precision and of every variant on facts of `study.inside` -> components.parquet.

    Args:
        n_prompts: at most so many of them.
        share: of neurons that counts as most active, see `top_count`.

    Returns:
        The columns of `table_of`, with `absent`, behind variant, method, bits, group_size. Full precision beside
        itself gives its own entropy and, in `shuffled`, how unlike two prompts are to begin with.
    """
    compute = partial(of_variant, study, n_prompts=n_prompts, share=share)
    return study.table("components", compute, study.labels, n_prompts=n_prompts, share=share)


def summary(table: pd.DataFrame, position: str = "last") -> pd.DataFrame:
    """Means over layers, one row per variant and measure of `PERFECT`, from the table of `measure`.

    Columns: variant, method, bits, measure, in_situ, clean, shuffled (in situ beside another prompt), and own, the part
    of the damage that is left on clean input: (clean - perfect) / (in_situ - perfect).
    """
    rows = table[(table["variant"] != FULL) & (table["position"] == position) & table["head"].isna()]
    rows = rows[rows["measure"].isin(list(PERFECT))]
    index = ["variant", "method", "bits", "measure"]
    means = rows.pivot_table(index=index, columns="condition", values=["estimate", "shuffled"], sort=False)
    found = means["estimate"].assign(shuffled=means["shuffled"]["in_situ"]).reset_index()
    perfect = found["measure"].map(PERFECT)
    return found.assign(own=(found["clean"] - perfect) / (found["in_situ"] - perfect))
