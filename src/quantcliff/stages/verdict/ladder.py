"""The ladder of next steps: what would keep how many answers, and at how many bits, measured and not guessed.

Layers in 8 bits are measured with full precision's in their place, from which 8 bits hardly differ. Layers are taken
from the bottom, as the paper protects them, or those that cost most by themselves (`causes.alone`); these are chosen on
one half of the prompts and every step is tried on the other. More bits for all layers are plain rounding, which any
calibrated method should beat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from transformers import PretrainedConfig

from quantcliff import stats
from quantcliff.errors import InputError
from quantcliff.quantizers import Scheme, average_bits, check, rounding
from quantcliff.stages.repair import PROTECTED_BITS
from quantcliff.stages.verdict.pair import Pair
from quantcliff.tracing import Runner, chain, ranks, relay, score

COLUMNS = ["signal", "layer", "value", "low", "high", "n", "average_bits", "note"]

WIDTHS = (3, 4)
"""Bits that all layers could be given instead."""


def steps(pair: Pair, costly: Sequence[int]) -> pd.DataFrame:
    """Every step, beginning with the model as it is.

    Args:
        costly: layers, those first that cost most if they alone are quantized.

    Returns:
        signal (the step, in words), layer (missing), value, low, high (share of full precision's right answers kept,
        Wilson), n, average_bits (per weight of all linear layers, scales counted), note (of what it is an estimate).
    """
    rows = []
    for words, bits, right, note in _tried(pair, costly):
        kept = stats.share(right)
        rows.append((words, None, *kept, len(right), bits, note))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"layer": "Int64", "value": float})


def _tried(pair: Pair, costly: Sequence[int]) -> Iterator[tuple[str, float, Bool[np.ndarray, " prompt"], str]]:
    probes, variant = pair.halves[1], pair.study.variant(pair.label)
    scheme = variant.scheme or Scheme("rtn", variant.bits, variant.group_size)
    config, n = pair.study.base.hf.config, pair.n_layers

    def bits(layers: Sequence[int]) -> float:
        return average_bits(config, replace(scheme, bits_by_layer=tuple((layer, PROTECTED_BITS) for layer in layers)))

    counts = [count for count in (1, 2, 4, 8, 16) if count <= n // 2]
    stream = torch.tensor(pair.study.last_streams(pair.label, probes)[:, -1])
    yield "as it is", bits([]), ranks(pair.own, stream, probes.answers) == 1, ""
    for count, streams in relay(pair.full, pair.own, counts, probes).items():
        right = ranks(pair.own, streams[:, -1], probes.answers) == 1
        yield f"{_layers(range(count))} in {PROTECTED_BITS} bits", bits(range(count)), right, "from the bottom"
    for count in counts:
        chosen = sorted(costly[:count])
        if chosen != list(range(count)):
            stream = chain([pair.full if layer in chosen else pair.own for layer in range(n)], probes)
            right = ranks(pair.own, stream, probes.answers) == 1
            yield f"{_layers(chosen)} in {PROTECTED_BITS} bits", bits(chosen), right, "the costliest by themselves"
    for width in WIDTHS:
        wider = replace(scheme, method="rtn", bits=width, bits_by_layer=(), bits_by_module=())
        if width > variant.bits and _fits(wider, config):
            right = (score(Runner(rounding.rounded_model(pair.study.base, wider)), probes)["rank"] == 1).to_numpy()
            yield f"all layers in {width} bits, rounded to nearest", average_bits(config, wider), right, ""


def _fits(scheme: Scheme, config: PretrainedConfig) -> bool:
    try:
        check(scheme, config)
    except InputError:
        return False
    return True


def _layers(layers: Sequence[int]) -> str:
    """`"layer 3"`, `"layers 0 to 3"`, `"layers 0, 2, 29"`"""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers))}"
