"""What a model keeps of the first tokens of its prompts (keys and values), so that a run can go on after them.

It is the cache that models generate text with. Rotary and learned positions, sliding windows and masks are
transformers' own affair there.
"""

from copy import copy
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, DynamicCache

from quantcliff.tracing.runner import Runner


def remember(runner: Runner, ids: Int[Tensor, "batch pos"]) -> Cache:
    """Keys and values of all blocks for these tokens; the head is not run."""
    past = DynamicCache(config=runner.model.hf.config)
    runner.run(ids, last=torch.zeros(0, dtype=torch.long), past=past)
    return past


def take(past: Cache, rows: Int[Tensor, " row"], start_layer: int = 0) -> Cache:
    """A copy, which a run may add to, of some prompts' past (in this order, repeats allowed).

    Args:
        start_layer: the blocks below it are not going to be run.
    """
    other = copy(past)
    other.layers = [copy(layer) for layer in past.layers]
    for layer in other.layers[start_layer:]:
        layer.batch_select_indices(rows if layer.keys is None else rows.to(layer.keys.device))
    return other


_TRIED: WeakKeyDictionary[Runner, bool] = WeakKeyDictionary()


def resumes(runner: Runner) -> bool:
    """Whether going on after some tokens gives what the whole prompt gives.

    It is tried once, on eight tokens: nothing else warns of an architecture whose blocks look back in some other way. A
    model that quantizes while it runs may share scales between tokens, and never does.
    """
    if runner not in _TRIED:
        _TRIED[runner] = runner.serving is None and _tried(runner)
    return _TRIED[runner]


def _tried(runner: Runner) -> bool:
    ids = torch.arange(1, 9)[None] % runner.vocab
    whole, resumed = runner.logits(ids)[:, 5:], runner.run(ids[:, 5:], past=remember(runner, ids[:, :5]))[0]
    near = torch.finfo(runner.model.hf.dtype).eps ** 0.5
    return bool((whole - resumed).abs().max() <= near * whole.abs().max())
