"""Stage 4: do attention and FFN of a quantized model still do their work?

Each component is measured twice. *In situ*: the quantized model runs on its own stream, so a component also inherits
the damage done below it. *On clean input*: every attention and every FFN of the quantized model reads the residual
stream that full precision has at that place, so what is left is the component's own failure. Source: arXiv 2604.19884,
component analysis; where its formula is not published, a docstring says what was chosen.

The measures themselves stand in `components_measures`, what one quantized part costs by itself in
`components_sensitivity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from quantcliff import stats
from quantcliff.components_measures import (
    chance_overlap,
    cosine,
    jensen_shannon,
    normalised_entropy,
    sign_flips,
    top_overlap,
)
from quantcliff.facts import Probes
from quantcliff.positions import spans
from quantcliff.smoothing import unsmoothed
from quantcliff.study import FULL, Study
from quantcliff.trace import Batch, Runner, batches, site

POSITIONS = ("last", "last_subject")
"""Where components are read: at the prompt's last token and at its subject's last token."""

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


@dataclass(frozen=True)
class Reading:
    """What the components of one model did at one token of each prompt.

    `gate` goes into the FFN's nonlinearity (the gate projection, or the pre-activation where there is no gate), `post`
    into `down_proj`.
    """

    pattern: Float[Tensor, "prompt layer head key"]
    attn_out: Float[Tensor, "prompt layer d_model"]
    gate: Float[Tensor, "prompt layer d_ffn"]
    post: Float[Tensor, "prompt layer d_ffn"]
    mlp_out: Float[Tensor, "prompt layer d_model"]

    def rows(self, index: Int[Tensor, " chosen"]) -> "Reading":
        """The reading of some of the prompts, in this order."""
        return Reading(**{kind: getattr(self, kind)[index] for kind in KINDS})


KINDS = tuple(field.name for field in fields(Reading))


def read(
    runner: Runner,
    batch: Batch,
    tokens: Mapping[str, Int[Tensor, " batch"]],
    stream: Mapping[str, Tensor] | None = None,
    record: bool = False,
) -> tuple[dict[str, Reading], dict[str, Tensor]]:
    """One pass of a model over a batch.

    Args:
        tokens: for each kind of position the token to read in every prompt; -1 skips the prompt.
        stream: what every attention and FFN is to read instead of the model's own stream, by site name; None for none.
        record: also return the model's own stream where attention and FFN read it, in the form `stream` takes.

    Returns:
        A reading for each kind of position, of the prompts that have it; the stream (empty unless asked for).
    """
    chosen = {name: (torch.nonzero(at >= 0).flatten(), at[at >= 0]) for name, at in tokens.items()}
    picked: dict[tuple[str, str], list[Tensor]] = {(name, kind): [] for name in chosen for kind in KINDS}

    def pick(kind: str, tensor: Tensor) -> Tensor:
        for name, (rows, at) in chosen.items():
            picked[name, kind].append(tensor[rows, :, at] if kind == "pattern" else tensor[rows, at])
        return tensor

    layers = range(runner.n_layers)
    edits = {site(kind, layer): partial(pick, kind) for layer in layers for kind in KINDS}
    for name, clean in (stream or {}).items():
        edits[name] = partial(lambda new, own: new.to(own), clean)
    kinds = ("resid_pre",) if runner.parallel else ("resid_pre", "resid_mid")
    names = [site(kind, layer) for layer in layers for kind in kinds] if record else []
    _, own_stream = runner.run(batch.ids, record=names, edits=edits, last=batch.last)
    readings = {
        name: Reading(**{kind: torch.stack(picked[name, kind], 1).float().cpu() for kind in KINDS}) for name in chosen
    }
    return readings, own_stream


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
    full: Runner, own: Runner, probes: Probes, *, share: float = 0.01, size: int = 32, seed: int = 0
) -> dict[Key, Float[np.ndarray, "prompt layer *head"]]:
    """All measures of a model beside full precision, prompt by prompt; memory grows with `size`, not with the prompts.

    Both models run at the same time: patterns have no place in a `Trace`, and the run that gives them gives the clean
    stream too.

    Args:
        own: in the units of full precision (`smoothing.unsmoothed`), or AWQ's scales would count as damage to neurons.
        share: see `top_count`.
        size: prompts per batch.
        seed: draws the other prompts.

    Returns:
        Arrays by `Key`; shuffled ones set the model beside full precision's reading of another prompt, the level that a
        measure has without any likeness of content. NaN where a prompt has no subject, or no partner.
    """
    draw = torch.Generator().manual_seed(seed)
    where = {name: spans(name, probes.subject, probes.lengths)[:, 1] for name in POSITIONS}
    found: dict[Key, np.ndarray] = {}

    def keep(key: Key, prompts: np.ndarray, values: Tensor) -> None:
        if key not in found:
            found[key] = np.full((len(probes), *values.shape[1:]), np.nan, dtype=np.float32)
        found[key][prompts] = values.numpy()

    for batch in tqdm(list(batches(probes, size)), desc=f"components {own.model.name}", leave=False, disable=None):
        tokens = {
            name: torch.from_numpy(at[batch.indices]) for name, at in where.items() if (at[batch.indices] >= 0).any()
        }
        theirs, stream = read(full, batch, tokens, record=True)
        ours = {"in_situ": read(own, batch, tokens)[0], "clean": read(own, batch, tokens, stream)[0]}
        for position, at in tokens.items():
            prompts, n_keys = batch.indices[at.numpy() >= 0], at[at >= 0] + 1
            partner = partners(n_keys, draw)
            paired = torch.nonzero(partner >= 0).flatten()
            for condition in CONDITIONS:
                reading, key = ours[condition][position], (position, condition)
                entropy = normalised_entropy(reading.pattern, n_keys[:, None, None])
                keep((*key, "entropy", False), prompts, entropy)
                for measure, values in compare(theirs[position], reading, share).items():
                    keep((*key, measure, False), prompts, values)
                mixed = compare(theirs[position].rows(partner[paired]), reading.rows(paired), share)
                for measure, values in mixed.items():
                    keep((*key, measure, True), prompts[paired.numpy()], values)
    return found


def table_of(found: Mapping[Key, np.ndarray], chance: Mapping[str, float], seed: int = 0) -> pd.DataFrame:
    """Means over prompts with 95% bootstrap intervals, from what `side_by_side` found.

    Columns: component, measure, condition, position, layer, head (<NA>: mean over heads, or a measure without heads),
    estimate, low, high, n (prompts), shuffled (the mean beside another prompt), chance (of random activations).
    """
    parts = []
    for (position, condition, measure, shuffled), values in found.items():
        if shuffled or np.isnan(values).all():
            continue
        values, heads = _with_mean(values)
        mean = np.nanmean if np.isnan(values).any() else np.mean  # the second is twice as fast
        at = stats.bootstrap(values, statistic=mean, seed=seed)
        other = found.get((position, condition, measure, True))
        baseline = np.nan if other is None or np.isnan(other).all() else np.nanmean(_with_mean(other)[0], 0).ravel()
        layers, n_heads = values.shape[1:]
        parts.append(
            pd.DataFrame(
                {
                    "component": COMPONENT[measure], "measure": measure, "condition": condition, "position": position,
                    "layer": np.repeat(np.arange(layers), n_heads),
                    "head": pd.array(heads * layers, dtype="Int64"),
                    "estimate": np.ravel(at.estimate), "low": np.ravel(at.low), "high": np.ravel(at.high),
                    "n": int((~np.isnan(values[:, 0, 0])).sum()),
                    "shuffled": baseline, "chance": chance.get(measure, np.nan),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _with_mean(values: np.ndarray) -> tuple[np.ndarray, list[int | None]]:
    """(prompt, layer, head) with the mean over heads put last; a measure without heads is its own mean."""
    if values.ndim == 2:
        return values[:, :, None], [None]
    return np.concatenate([values, values.mean(-1, keepdims=True)], -1), [*range(values.shape[2]), None]


def sample(probes: Probes, n: int, seed: int = 0) -> Probes:
    """At most n of the prompts, drawn evenly, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(probes))[:n]
    return probes.select(np.sort(chosen))


def of_variant(study: Study, label: str, n_prompts: int = 300, share: float = 0.01) -> pd.DataFrame:
    """`table_of` for one variant, or "full", on known facts; nothing is written."""
    probes, full = sample(study.known, n_prompts, study.seed), study.runner(FULL)
    assert full.d_ffn is not None
    own = full if label == FULL else Runner(unsmoothed(study.base, study.model(label)))
    chance = {"sign_flips": 0.5, "jaccard": chance_overlap(full.d_ffn, share), "attn_cosine": 0.0, "ffn_cosine": 0.0}
    return table_of(side_by_side(full, own, probes, share=share, seed=study.seed), chance, study.seed)


def measure(study: Study, n_prompts: int = 300, share: float = 0.01) -> pd.DataFrame:
    """The components of full precision and of every variant on known facts -> components.parquet.

    Args:
        n_prompts: of the facts that full precision answers right, at most so many are drawn.
        share: of neurons that counts as most active, see `top_count`.

    Returns:
        The columns of `table_of` behind variant, method, bits, group_size. Full precision beside itself gives its own
        entropy and, in `shuffled`, how unlike two prompts are to begin with.
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
