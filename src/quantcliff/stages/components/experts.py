"""Stage 4, third part: which experts the tokens of a mixture visit, and whether those still do their work.

Each token visits a few experts of many, which a router chooses, so gates of two models cannot be set side by side as
they are. Two questions take their place, at each prompt's last token: do both routers choose the same experts, and in
those that both chose, do the same gates open and the same neurons lead? (Chosen: the paper has no such model.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from quantcliff import stats
from quantcliff.probes import Probes
from quantcliff.quantizers import unsmoothed
from quantcliff.stages.components.measures import chance_overlap, top_count
from quantcliff.stages.components.readings import Recorded, instead
from quantcliff.study import FULL, Study
from quantcliff.tracing import Batch, Runner, batches

MEASURES = ("same_experts", "sign_flips", "jaccard")


@dataclass(frozen=True)
class Visits:
    """What the experts of one model did at the last token of each prompt; `layers` are those that have experts.

    Attributes:
        chosen: numbers of the experts that the router chose.
        open: whether a gate of theirs is above 0; `top`: numbers of their most active neurons, at the input of
            `down_proj`.
        visited: experts that any token of any prompt visited. In a model's last layer only last tokens count: what it
            does at others reaches no answer.
    """

    layers: tuple[int, ...]
    chosen: Int[Tensor, "prompt layer slot"]
    open: Bool[Tensor, "prompt layer slot neuron"]
    top: Int[Tensor, "prompt layer slot most"]
    visited: Bool[Tensor, "layer expert"]

    def rows(self, index: Int[np.ndarray, " prompt"]) -> "Visits":
        """The visits of some of the prompts, in this order."""
        taken = torch.from_numpy(index)
        return Visits(self.layers, self.chosen[taken], self.open[taken], self.top[taken], self.visited)


def stacked(runner: Runner) -> dict[int, Any]:
    """By layer, the module that holds a layer's experts; layers without experts have none."""
    found = {}
    for layer in range(runner.n_layers):
        for module in runner.bridge.blocks[layer].modules():
            if hasattr(module, "_apply_gate") and getattr(module, "gate_up_proj", None) is not None:
                found[layer] = module
    return found


def work(
    experts: Any, inputs: Float[Tensor, "token d_model"], chosen: Int[Tensor, "token slot"]
) -> tuple[Float[Tensor, "token slot neuron"], Float[Tensor, "token slot neuron"]]:
    """Gates before their nonlinearity, and the input of `down_proj`, of the experts that each token visits.

    How a stack is laid out is read off transformers' own marks on it (`is_transposed`, `is_concatenated`, `has_bias`).
    """
    gates, posts = [], []
    for token, numbers in zip(inputs, chosen, strict=True):
        weights = experts.gate_up_proj[numbers]
        out = torch.einsum("sdn,d->sn" if experts.is_transposed else "snd,d->sn", weights, token)
        if experts.has_bias:
            out = out + experts.gate_up_proj_bias[numbers]
        gates.append(out.chunk(2, -1)[0] if experts.is_concatenated else out[..., ::2])
        posts.append(experts._apply_gate(out))
    return torch.stack(gates), torch.stack(posts)


def visits(
    runner: Runner, probes: Probes, clean: Recorded | None = None, share: float = 0.01, size: int = 32
) -> Visits:
    """Run a mixture of experts over prompts and see whom its tokens visit.

    Args:
        clean: what every attention and FFN reads instead of the model's own stream; None for none.
        share: of an expert's neurons that counts as most active, see `top_count`.
        size: prompts per batch.

    Raises:
        ValueError: no layer has experts whose gates can be read.
    """
    modules = stacked(runner)
    if not modules:
        raise ValueError(f"{runner.model.name} has no layer of experts whose gates can be read")
    found: dict[str, dict[int, list[Tensor]]] = {kind: {n: [] for n in modules} for kind in ("chosen", "open", "top")}
    visited = {layer: torch.zeros(len(module.gate_up_proj), dtype=torch.bool) for layer, module in modules.items()}

    def see(layer: int, batch: Batch, module: nn.Module, args: tuple, kwargs: dict) -> None:
        inputs, chosen = [*args, *kwargs.values()][:2]
        inputs, chosen = (part.reshape(len(batch.ids), -1, part.shape[-1]) for part in (inputs, chosen))
        rows = torch.arange(len(batch.ids), device=inputs.device)
        at = batch.last.to(rows) if inputs.shape[1] > 1 else torch.zeros_like(rows)
        inside = torch.arange(inputs.shape[1], device=rows.device) <= at[:, None]
        visited[layer][chosen[inside].flatten().cpu()] = True
        gates, posts = work(module, inputs[rows, at], chosen[rows, at])
        most = posts.abs().topk(top_count(posts.shape[-1], share), -1).indices
        for kind, values in (("chosen", chosen[rows, at]), ("open", gates > 0), ("top", most)):
            found[kind][layer].append(values.cpu())

    numbers = []
    for batch in tqdm(list(batches(probes, size)), desc=f"experts of {runner.model.name}", leave=False, disable=None):
        hooks = [
            module.register_forward_pre_hook(partial(see, layer, batch), with_kwargs=True)
            for layer, module in modules.items()
        ]
        stream = clean.clean(batch.indices, batch.ids.shape[1]) if clean else {}
        try:
            runner.run(batch.ids, edits=instead(stream), last=batch.last)
        finally:
            for hook in hooks:
                hook.remove()
        numbers.append(batch.indices)
    order = torch.from_numpy(np.argsort(np.concatenate(numbers)))
    parts = {kind: torch.stack([torch.cat(part) for part in by.values()], 1)[order] for kind, by in found.items()}
    return Visits(tuple(modules), **parts, visited=torch.stack(list(visited.values())))


def compare(full: Visits, own: Visits) -> dict[str, Float[np.ndarray, "prompt layer"]]:
    """`same_experts`: share of a token's experts that both models chose. `sign_flips` and `jaccard`: those of the
    components, mean over the experts that both chose; NaN where there is none.
    """
    same = full.chosen[..., :, None] == own.chosen[..., None, :]
    both, place = same.any(-1), same.int().argmax(-1)

    def beside(values: Tensor) -> Tensor:
        return values.gather(2, place[..., None].expand(*place.shape, values.shape[-1]))

    flips = (full.open != beside(own.open)).double().mean(-1)
    shared = (full.top[..., :, None] == beside(own.top)[..., None, :]).any(-1).sum(-1)
    overlap = shared / (2 * full.top.shape[-1] - shared)
    hidden = ~both
    return {
        "same_experts": both.double().mean(-1).numpy(),
        "sign_flips": flips.masked_fill(hidden, torch.nan).nanmean(-1).numpy(),
        "jaccard": overlap.double().masked_fill(hidden, torch.nan).nanmean(-1).numpy(),
    }


def table_of(
    found: Mapping[str, Float[np.ndarray, "prompt layer"]], other: Mapping[str, Float[np.ndarray, "prompt layer"]],
    layers: tuple[int, ...], chance: Mapping[str, float], seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Means over prompts with 95% bootstrap intervals, one row per measure and layer.

    Columns: measure, layer, estimate, low, high, n (prompts that have a value), shuffled (beside full precision on
    another prompt), chance (of random choices and activations).
    """
    rows = []
    for measure, values in found.items():
        for place, layer in enumerate(layers):
            there = values[:, place][~np.isnan(values[:, place])]
            mean = stats.bootstrap_mean(there, seed) if len(there) else stats.share([])
            beside = other[measure][:, place]
            shuffled = np.nanmean(beside) if (~np.isnan(beside)).any() else np.nan
            rows.append((measure, layer, mean.estimate, mean.low, mean.high, len(there), shuffled, chance[measure]))
    return pd.DataFrame(rows, columns=["measure", "layer", "estimate", "low", "high", "n", "shuffled", "chance"])


def of_variant(study: Study, label: str, n_prompts: int = 100, share: float = 0.01) -> pd.DataFrame:
    """`table_of` of one variant, or "full", in situ and on clean input (column condition); nothing is written."""
    runner, probes = study.runner(FULL), study.sample(n_prompts)
    full = visits(runner, probes, share=share)
    seen = {"in_situ": full, "clean": full}
    if label != FULL:
        recorded = Recorded.of(runner, probes, study.run / "trace")
        quantized = Runner(unsmoothed(study.base, study.model(label)))
        seen = {
            name: visits(quantized, probes, given, share) for name, given in zip(seen, (None, recorded), strict=True)
        }
    slots, n_experts = full.chosen.shape[-1], full.visited.shape[1]
    chance = {
        "same_experts": slots / n_experts,
        "sign_flips": 0.5,
        "jaccard": chance_overlap(full.open.shape[-1], share),
    }
    other = full.rows(np.roll(np.arange(len(probes)), 1))
    parts = [
        table_of(compare(full, own), compare(other, own), full.layers, chance, study.seed).assign(condition=condition)
        for condition, own in seen.items()
    ]
    place = {"position": "last", "head": pd.array([pd.NA], dtype="Int64").repeat(len(parts) * len(parts[0]))}
    counted = {"experts": full.visited.numel(), "unseen": int((~full.visited).sum())}
    return pd.concat(parts, ignore_index=True).assign(**place, **counted)


def measure(study: Study, n_prompts: int = 100, share: float = 0.01) -> pd.DataFrame:
    """The experts of full precision and of every variant on facts of `study.inside` -> components_experts.parquet.

    Returns:
        Behind variant, method, bits, group_size the columns of `table_of`, condition, position and head (as the
        components have them: "last", <NA>), and of all experts of the model the number (`experts`) and how many no
        token of these prompts visits in full precision (`unseen`), of which nothing is said.

    Raises:
        ValueError: the model has no experts.
    """
    compute = partial(of_variant, study, n_prompts=n_prompts, share=share)
    return study.table("components_experts", compute, study.labels, n_prompts=n_prompts, share=share)


def said(table: pd.DataFrame) -> str:
    """What the table of `measure` says of its one quantized model, in two sentences."""
    rows = table[(table["variant"] != FULL) & (table["condition"] == "in_situ")]
    means, chance = (rows.groupby("measure")[column].mean() for column in ("estimate", "chance"))
    unseen, everyone = rows[["unseen", "experts"]].iloc[0]
    text = (
        f"At the last token {means['same_experts']:.1%} of the experts that full precision chooses are chosen by the "
        f"quantized model too (by chance {chance['same_experts']:.0%})"
    )
    if not np.isnan(means["sign_flips"]):
        text += f"; in those that both choose {means['sign_flips']:.1%} of the gates flip"
    if unseen:
        text += f". {unseen} of {everyone} experts are visited by no token of these prompts, and not compared"
    return f"{text}."
