"""Pretended graphics cards: every tensor lies in memory and has a card written on it, and what PyTorch refuses between
real cards is refused between these.

Numbers are those of the CPU. What is not pretended: streams, kernels, memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

GETTER = Tensor.device.__get__  # type: ignore[attr-defined]
MOVES = (Tensor.to, Tensor.cpu, Tensor.cuda)
FREE = (Tensor.copy_, Tensor.__setitem__, Tensor.data.__set__, torch._has_compatible_shallow_copy_type)  # type: ignore[attr-defined]


def card_of(tensor: Tensor) -> int | None:
    """None: in main memory."""
    with torch._C.DisableTorchFunction():
        return getattr(tensor.untyped_storage(), "card", None)


def _write(tensor: Tensor, card: int | None) -> None:
    with torch._C.DisableTorchFunction():
        tensor.untyped_storage().card = card  # type: ignore[attr-defined]


def _card(device: Any) -> int | None:
    device = torch.device(device)
    return (device.index or 0) if device.type == "cuda" else None


def _real(one: Any) -> Any:
    """Where it lies in truth, if it is a device."""
    return "cpu" if isinstance(one, (str, torch.device)) and torch.device(one).type == "cuda" else one


class Cards(TorchFunctionMode):
    """Inside, `cuda:N` is a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == GETTER:
            card = card_of(args[0])
            return func(*args) if card is None else torch.device("cuda", card)
        looked_at = args[:1] if func.__name__ == "__deepcopy__" else (args, kwargs)  # whose memo holds all others
        given = [one for one in tree_flatten(looked_at)[0] if isinstance(one, Tensor)]
        if func in MOVES:
            return self._moved(func, args, kwargs)
        if func in (Tensor.numpy, Tensor.__array__) and card_of(args[0]) is not None:
            raise TypeError("can't convert cuda tensor to numpy")
        target = None
        if kwargs.get("device") is not None:
            target, kwargs["device"] = _card(kwargs["device"]), _real(kwargs["device"])
        else:
            target = self._together(func, given)
        out = func(*args, **kwargs)
        old = {one.untyped_storage()._cdata for one in given}
        for one in tree_flatten(out)[0]:
            if isinstance(one, Tensor) and one.untyped_storage()._cdata not in old:
                _write(one, target)
        return out

    def _together(self, func: Any, given: list[Tensor]) -> int | None:
        """The card that all of these lie on."""
        heavy = [one for one in given if one.ndim] or given
        first = card_of(heavy[0]) if heavy else None
        others = {card_of(one) for one in heavy[1:]}
        if func == Tensor.__getitem__:
            others.discard(None)  # main memory's places may be looked up on a card
        if others - {first} and func not in FREE:
            raise RuntimeError(f"{func.__name__}: tensors on {[card_of(one) for one in heavy]}")
        return first

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        own, *rest = args
        if func != Tensor.to:
            return _at(own, None if func == Tensor.cpu else 0)
        target = card_of(own)
        for one in [*rest, *kwargs.values()]:
            if isinstance(one, Tensor):
                target = card_of(one)
            elif isinstance(one, (str, torch.device)):
                target = _card(one)
        rest, kwargs = tree_map(_real, (rest, kwargs))
        return _at(Tensor.to(own, *rest, **kwargs), target)


def _at(tensor: Tensor, card: int | None) -> Tensor:
    if card_of(tensor) == card:
        return tensor
    with torch._C.DisableTorchFunction():
        other = tensor.clone()
    _write(other, card)
    return other


@contextmanager
def pretended(count: int, memory: int) -> Iterator[None]:
    """So many cards of so many bytes."""
    known = {
        "device_count": lambda: count, "is_available": lambda: True, "empty_cache": lambda: None,
        "mem_get_info": lambda *_: (memory, memory), "synchronize": lambda *_: None,
        "get_device_properties": lambda card: mock.Mock(total_memory=memory),
    }  # fmt: skip
    with mock.patch.multiple(torch.cuda, **known), Cards():
        yield


__all__ = ["card_of", "pretended"]
