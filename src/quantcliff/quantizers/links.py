"""Which factors on channels cancel inside a decoder layer: tried out, whatever its modules are called.

AWQ and SmoothQuant divide the output channels of one module by factors and multiply the input channels of the linear
layers that read it. Where that changes nothing depends on the architecture: q, k and v may be one matrix, gate and up
too, a norm may stand before a sublayer or behind it, attention and FFN may read the same norm. So the model is run on a
few tokens with the last n output channels of a module times 1/2, 1 or 2. A linear layer whose input is then exactly its
old input times these factors is a reader, and gets the old one back; if the output of the decoder layer is as it was,
these are all the readers, and the two are linked.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcliff.models import LAYER

TOKENS = 6
"""Tokens that are read: with one token alone, attention mixes nothing."""


@dataclass(frozen=True)
class Link:
    """The last `n` output channels of `first`, a norm or a linear layer, are the input channels of all `readers`, up to
    factors that do not mix them and do not depend on their size. Full module names.
    """

    first: str
    readers: tuple[str, ...]
    n: int


_KNOWN: WeakKeyDictionary[nn.Module, tuple[Link, ...]] = WeakKeyDictionary()


def links(hf: PreTrainedModel) -> tuple[Link, ...]:
    """All links inside the decoder layers of a plain model that no `Runner` has wrapped; found once for a model.

    A module whose output something else reads too (a router, stacked experts, the residual stream) has none.
    """
    if hf not in _KNOWN:
        _KNOWN[hf] = tuple(_find(hf))
    return _KNOWN[hf]


@dataclass
class _Seen:
    """What one pass leaves: inputs of linear layers, inputs and outputs of decoder layers, and readers found."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    entered: dict[str, Tensor] = field(default_factory=dict)
    left: dict[str, Tensor] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@torch.no_grad()
def _find(hf: PreTrainedModel) -> Iterator[Link]:
    modules = {name: module for name, module in hf.named_modules() if LAYER.search(f"{name}.")}
    linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
    ids = torch.arange(1, TOKENS + 1, device=hf.device)[None] % hf.config.vocab_size
    layers = dict.fromkeys(map(_layer, linear))
    clean = _Seen()
    with _hooks({name: modules[name] for name in layers}, linear, clean):
        hf.base_model(ids, use_cache=False)
    widths = {x.shape[-1] for x in clean.inputs.values()}
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, module in modules.items():
        is_norm = isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim == 1
        if (name in linear or is_norm) and _layer(name) in layers:
            kinds[name.removeprefix(_layer(name))].append(name)
    for names in kinds.values():
        wide = {len(modules[name].weight) for name in names}  # type: ignore[arg-type]
        for n in sorted(width for width in widths if width <= max(wide)):
            powers = torch.randint(-1, 2, (n,), generator=torch.Generator().manual_seed(n))
            factors = (2.0**powers).to(hf.dtype)
            seen = _Seen()
            change = _Change({name: modules[name] for name in names}, factors, clean)
            with _hooks({name: modules[name] for name in layers}, linear, seen, change):
                hf.base_model(ids, use_cache=False)
            for name in names:
                layer = _layer(name)
                if (found := seen.readers[layer]) and _same(seen.left[layer], clean.left[layer]):
                    yield Link(name, tuple(found), n)


@dataclass(frozen=True)
class _Change:
    """Modules whose last output channels are multiplied, by what, and what the model does without."""

    sources: Mapping[str, nn.Module]
    factors: Float[Tensor, " n"]
    clean: _Seen


@contextmanager
def _hooks(
    layers: Mapping[str, nn.Module], linear: Mapping[str, nn.Module], seen: _Seen, change: _Change | None = None
) -> Iterator[None]:
    """Let a model fill `seen`; with a change, every decoder layer starts from what it read without it."""

    def enters(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            place = args[0] if args else kwargs["hidden_states"]
            seen.entered[name] = place if change is None else change.clean.entered[name]
            return ((seen.entered[name], *args[1:]), kwargs) if args else (
                args, kwargs | {"hidden_states": seen.entered[name]}
            )  # fmt: skip

        return hook

    def leaves(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, out: Tensor | tuple) -> None:
            seen.left[name] = out if isinstance(out, Tensor) else out[0]

        return hook

    def reads(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            seen.inputs[name] = args[0]
            if change is None or args[0].shape[-1] != len(change.factors):
                return None
            before = change.clean.inputs.get(name)
            if before is None or before.shape != args[0].shape or not before.any():
                return None
            if not _same(args[0], before * change.factors.to(before.device)):
                return None
            seen.readers[_layer(name)].append(name)
            return (before, *args[1:])

        return hook

    def scaled(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
        assert change
        n = min(len(change.factors), out.shape[-1])
        return torch.cat([out[..., : out.shape[-1] - n], out[..., -n:] * change.factors[-n:].to(out.device)], -1)

    handles = [module.register_forward_pre_hook(enters(name), with_kwargs=True) for name, module in layers.items()]
    handles += [module.register_forward_hook(leaves(name)) for name, module in layers.items()]
    handles += [module.register_forward_pre_hook(reads(name)) for name, module in linear.items()]
    handles += [module.register_forward_hook(scaled) for module in (change.sources.values() if change else ())]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer(name: str) -> str:
    """`"model.layers.3.mlp.up_proj"` -> `"model.layers.3"`"""
    found = LAYER.search(f"{name}.")
    assert found, name
    return name[: found.end() - 1]


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal up to the order of sums; factors of two change no digit."""
    return bool((one - other).abs().max() <= 1e-5 * other.abs().max())
