"""A model on one device or, where it is too large for a card and there are several, its layers on all of them.

accelerate decides which layer goes where, and moves what a layer reads to the card that it lies on. It decides by sizes
alone: a model and its quantized variants, which have equal sizes here, lie on the same cards layer by layer.
"""

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_balanced_memory
from transformers import PreTrainedModel

from quantcliff.errors import InputError

SHARE = 0.45
"""Of a card's memory that one model may take: some work needs two at once, and room for activations."""


def cards() -> list[int]:
    """Bytes of memory of each card that PyTorch sees."""
    return [torch.cuda.get_device_properties(card).total_memory for card in range(torch.cuda.device_count())]


def put(hf: PreTrainedModel, device: str, name: str) -> PreTrainedModel:
    """The model, in place, on its device; on "cuda", without a number, on every card if one has no room for it.

    Raises:
        InputError: all cards together have no room for it either.
    """
    found = cards() if device == "cuda" else []
    if len(found) < 2 or hf.get_memory_footprint() <= SHARE * found[0]:
        return hf.to(device)  # type: ignore[arg-type]
    where = plan(hf, found)
    if where is None:
        needed, there = (f"{size / 1e9:.1f} GB" for size in (hf.get_memory_footprint(), sum(found)))
        raise InputError(
            f"{name} takes {needed}, and {len(found)} cards with {there}, of which one model may have {SHARE:.0%}, "
            "have no room for it: use dtype bfloat16, device cpu, or more cards"
        )
    first = where[next(iter(where))]
    return dispatch_model(hf, where, main_device=first, force_hooks=True)


def plan(hf: PreTrainedModel, found: list[int]) -> dict[str, str] | None:
    """Which part of a model lies on which of the cards, whose memory is `found`; None where it does not fit."""
    whole = list(hf._no_split_modules or ())
    room: dict[int | str, int | str] = {card: int(SHARE * memory) for card, memory in enumerate(found)}
    balanced = get_balanced_memory(hf, room, no_split_module_classes=whole)
    balanced["cpu"] = 0
    places = infer_auto_device_map(hf, balanced, no_split_module_classes=whole)
    if not all(isinstance(card, int) for card in places.values()):
        return None
    return {part: f"cuda:{card}" for part, card in places.items()}
