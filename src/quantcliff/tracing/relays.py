"""A relay: one model runs the first layers, another the rest, on the same prompts.

Quantizing the first k layers alone ("domino"), the last k, or keeping the first n in more bits are all relays between
two models that share embedding, final norm and head, as a model and its quantized variants do.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor

from quantcliff.probes import Probes
from quantcliff.tracing.batches import Batch, batches, patiently
from quantcliff.tracing.runner import Runner, site
from quantcliff.tracing.trace import rank_of

Streams = Float32[Tensor, "prompt layer d_model"]
"""Residual stream after every layer, at each prompt's last token; what comes after the last layer gives the output."""

PROMPTS_AT_ONCE = 64


def relay(lower: Runner, upper: Runner, cuts: Sequence[int], probes: Probes) -> dict[int, Streams]:
    """Run the first k layers of `lower` and the remaining ones of `upper`, for every k in `cuts`.

    With k = 0 all layers are `upper`'s, with k = `n_layers` all are `lower`'s. The lower model runs once, up to the
    highest cut, whatever the number of cuts.
    """
    names = [site("resid_post", layer) for layer in range(lower.n_layers)]
    found = {cut: torch.empty(len(probes), len(names), lower.d_model) for cut in cuts}

    def work(batch: Batch) -> None:
        def last(stream: Tensor) -> Tensor:
            return _last(stream, batch)

        below: dict[str, Tensor] = {}
        if deepest := max(cuts, default=0):
            entered = {names[cut - 1] for cut in cuts if cut}
            picks = {name: _as_it_is if name in entered else last for name in names[:deepest]}
            _, below = lower.run(batch.ids, record=picks, end_layer=deepest, last=batch.last)
        for cut in cuts:
            streams = {name: below[name] if below[name].ndim == 2 else last(below[name]) for name in names[:cut]}
            above = dict.fromkeys(names[cut:], last)
            if cut == 0:
                streams |= upper.run(batch.ids, record=above, last=batch.last)[1]
            elif cut < len(names):
                streams |= upper.run(below[names[cut - 1]], record=above, start_layer=cut, last=batch.last)[1]
            found[cut][torch.from_numpy(batch.indices)] = torch.stack([streams[name] for name in names], 1)

    patiently(batches(probes, PROMPTS_AT_ONCE), work, desc="running")
    return found


def chain(runners: Sequence[Runner], probes: Probes) -> Float32[Tensor, "prompt d_model"]:
    """Last-token stream that leaves a network whose layer i is the one of `runners[i]`."""
    parts = [(runner, list(layers)) for runner, layers in groupby(range(len(runners)), lambda layer: runners[layer])]
    found = torch.empty(len(probes), runners[0].d_model)

    def work(batch: Batch) -> None:
        stream: Tensor | None = None
        for runner, layers in parts:
            stream = _through(runner, batch.ids if stream is None else stream, layers, batch)
        assert stream is not None
        found[torch.from_numpy(batch.indices)] = _last(stream, batch)

    patiently(batches(probes, PROMPTS_AT_ONCE), work, desc="running")
    return found


def one_at_a_time(full: Runner, own: Runner, probes: Probes) -> Float32[Tensor, "layer prompt d_model"]:
    """Last-token stream that leaves `full` with one layer of `own` in the place of its own, for every layer.

    Nothing below that layer changes, so `full` is run there once for all.
    """
    n = full.n_layers
    found = torch.empty(n, len(probes), full.d_model)

    def work(batch: Batch) -> None:
        entering = [site("resid_pre", layer) for layer in range(n)]
        _, clean = full.run(batch.ids, record=entering, last=batch.last)
        for layer, name in enumerate(entering):
            stream = _through(own, clean[name], [layer], batch)
            if layer < n - 1:
                stream = _through(full, stream, range(layer + 1, n), batch)
            found[layer, torch.from_numpy(batch.indices)] = _last(stream, batch)

    patiently(batches(probes, PROMPTS_AT_ONCE), work, desc="layer by layer")
    return found


def _through(runner: Runner, stream: Tensor, layers: Sequence[int], batch: Batch) -> Tensor:
    """The stream that leaves some layers in a row; what enters them is token ids or a stream."""
    name = site("resid_post", layers[-1])
    start = layers[0] if stream.ndim == 3 else None
    return runner.run(stream, record=[name], start_layer=start, end_layer=layers[-1] + 1, last=batch.last)[1][name]


def _last(stream: Tensor, batch: Batch) -> Tensor:
    return stream[torch.arange(len(batch.indices)), batch.last].float().cpu()


def _as_it_is(stream: Tensor) -> Tensor:
    return stream


def ranks(
    runner: Runner, streams: Float32[Tensor, "prompt d_model"], answers: Sequence[Sequence[int]]
) -> Int[np.ndarray, " prompt"]:
    """Rank of the answer in the logits that the runner's head reads off these streams."""
    starts = range(0, len(streams), PROMPTS_AT_ONCE)
    rows = [slice(start, start + PROMPTS_AT_ONCE) for start in starts]
    return torch.cat([rank_of(runner.unembed(streams[row]), answers[row]).cpu() for row in rows]).numpy()


def depths(n_layers: int) -> list[int]:
    """Numbers of layers at which a relay is sampled: every small one, ever fewer above, and all layers.

    >>> depths(8)
    [0, 1, 2, 3, 4, 6, 8]
    """
    ladder = {0, 1, n_layers, *(2**i for i in range(1, 12)), *(3 * 2**i for i in range(11))}
    return sorted(depth for depth in ladder if depth <= n_layers)
