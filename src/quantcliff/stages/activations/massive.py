"""Massive activations and attention sinks of a model in full precision; and the largest inputs of its linear layers.

Massive activations (arXiv 2402.17762) are a few channels of the residual stream that are a thousand times larger than
the others, at the first token above all; a sink (arXiv 2309.17453) is the attention that goes to it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantcliff import stats
from quantcliff.models import Model, linears
from quantcliff.probes import Probes
from quantcliff.tracing import Runner, batches, site


def measure(runner: Runner, probes: Probes, seed: int = 0) -> pd.DataFrame:
    """One row per layer and measure, means over prompts with bootstrap intervals.

    Returns:
        layer; measure: "first" and "rest" (share of ||h||^2 in the largest channel of the stream after the layer, at
        the first token and on average over the others), "norm" (norm of the first token over the mean of the others),
        "sink" (share of attention that later tokens give the first one, mean over heads); estimate, low, high, n.
    """
    parts: dict[str, list[np.ndarray]] = {"first": [], "rest": [], "norm": [], "sink": []}
    for batch in batches(probes):
        names = [(site("resid_post", layer), site("pattern", layer)) for layer in range(runner.n_layers)]
        _, seen = runner.run(batch.ids, record=[name for pair in names for name in pair], last=batch.last)
        inside = torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]
        found = [of_layer(seen[stream].cpu(), seen[pattern].cpu(), inside) for stream, pattern in names]
        for name in parts:
            parts[name].append(np.stack([layer[name].numpy() for layer in found], 1))
    rows = []
    for name, values in parts.items():
        table = np.concatenate(values)
        intervals = stats.bootstrap_mean(table, seed)
        rows.append(pd.DataFrame(intervals._asdict()).assign(measure=name, layer=range(runner.n_layers), n=len(table)))
    return pd.concat(rows, ignore_index=True)


def of_layer(
    stream: Float[Tensor, "batch pos d_model"], pattern: Float[Tensor, "batch head query key"],
    inside: Float[Tensor, "batch pos"] | Tensor,
) -> dict[str, Float[Tensor, " batch"]]:  # fmt: skip
    """The measures of one layer, prompt by prompt; `inside` marks tokens that are no padding."""
    square = stream.double().square()
    share, norm = square.amax(-1) / square.sum(-1), square.sum(-1).sqrt()
    later = inside.clone().double()
    later[:, 0] = 0
    count = later.sum(1)
    return {
        "first": share[:, 0],
        "rest": (share * later).sum(1) / count,
        "norm": norm[:, 0] * count / (norm * later).sum(1),
        "sink": (pattern[:, :, :, 0].double().mean(1) * later).sum(1) / count,
    }


def middle(table: pd.DataFrame, measure: str) -> float:
    """Mean of one measure over the middle third of the layers."""
    rows = table[table["measure"] == measure].sort_values("layer")
    n = len(rows)
    return float(rows["estimate"].iloc[n // 3 : max(2 * n // 3, n // 3 + 1)].mean())


@torch.no_grad()
def largest(model: Model, documents: Sequence[Sequence[int]]) -> dict[str, dict[str, float]]:
    """Largest number among the inputs of every linear layer of the decoder while the model reads token ids.

    Args:
        model: plain, wrapped by no runner.

    Returns:
        "all" and "rest" (without the first token of each document) -> full module name -> largest absolute value.
    """
    found: dict[str, dict[str, float]] = {"all": {}, "rest": {}}
    modules = dict(model.hf.named_modules())

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            by_token = args[0][0].abs().amax(-1)
            for kind, values in (("all", by_token), ("rest", by_token[1:])):
                found[kind][name] = max(found[kind].get(name, 0.0), float(values.max()))

        return modules[name].register_forward_pre_hook(see)

    handles = [watch(name) for name in linears(model.hf.config)]
    try:
        for ids in documents:
            model.hf.base_model(torch.tensor([list(ids)], device=model.hf.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found
