"""The ways to quantize that are tried: weights by plain rounding, inputs, keys and values, each alone and together.

They are named as papers name them: W4A8 has 4-bit weights and 8-bit inputs, K2 2-bit keys, V2 values, KV2 both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantcliff.models import Served, by_tensor, by_token, in_groups
from quantcliff.study import FULL, Study

GROUP = 32
"""Tokens of a channel of keys, or channels of a token's values, that share a scale (KIVI, arXiv 2402.02750)."""


@dataclass(frozen=True)
class Way:
    """One way. `weights`: bits, 16 for full precision. `what` is quantized, `how`, and in how many `bits` (fewest)."""

    label: str
    weights: int
    what: str
    how: str
    bits: int
    served: Served | None = None

    @property
    def intact(self) -> bool:
        """Whether the weights are full precision's."""
        return self.weights == 16


def weights_alone(bits: Sequence[int] = (8, 4, 3, 2)) -> list[Way]:
    return [Way(f"W{width}A16", width, "weights", "rounded", width) for width in bits]


def inputs(bits: Sequence[int] = (8, 6, 4, 3)) -> list[Way]:
    """Inputs of linear layers, a scale for each token as it comes."""
    return [Way(f"W16A{width}", 16, "inputs", "by token", width, Served(by_token(width))) for width in bits]


def static(scales: Mapping[str, Mapping[str, float]], bits: Sequence[int] = (8, 6, 4)) -> list[Way]:
    """The control: one scale for all tokens, measured beforehand (`scales.largest`); and without the first token."""
    found = []
    for width in bits:
        for words, first in (("by tensor", False), ("by tensor, first token exact", True)):
            levels = (2**width - 1) / 2
            steps = {name: value / levels for name, value in scales["rest" if first else "all"].items()}
            label = f"W16A{width} static" + (" -first" if first else "")
            found.append(Way(label, 16, "inputs", words, width, Served(by_tensor(width), scales=steps, first=first)))
    return found


def together(pairs: Sequence[tuple[int, int]] = ((8, 8), (4, 8), (4, 4))) -> list[Way]:
    """Weights and inputs."""
    return [
        Way(f"W{weights}A{width}", weights, "weights and inputs", "by token", width, Served(by_token(width)))
        for weights, width in pairs
    ]


def cache(bits: Sequence[int] = (8, 4, 3, 2), head: int = GROUP) -> list[Way]:
    """Keys and values, each alone and both, a scale for each token of a head; and both by KIVI.

    Args:
        head: channels of a head; where `GROUP` does not divide them, fewer of a token's values share a scale.
    """
    found = []
    for width in bits:
        own = by_token(width, symmetric=False)
        kivi = Served(keys=in_groups(width, GROUP, "channel"), values=in_groups(width, math.gcd(GROUP, head)))
        found += [
            Way(f"KV{width}", 16, "keys and values", "by token", width, Served(keys=own, values=own)),
            Way(f"K{width}", 16, "keys", "by token", width, Served(keys=own)),
            Way(f"V{width}", 16, "values", "by token", width, Served(values=own)),
            Way(f"K{width} channel", 16, "keys", "by channel", width, Served(keys=kivi.keys)),
            Way(f"KV{width} KIVI", 16, "keys and values", "keys by channel", width, kivi),
        ]
    return found


def repaired(bits: int = 4, cache_bits: int = 2) -> list[Way]:
    """Inputs and cache with some tokens left alone, and inputs turned by a Hadamard matrix."""
    own, kept = by_token(bits), by_token(cache_bits, symmetric=False)
    kinds = {
        "-first": ("first token exact", {"first": True}),
        "-first -2": ("first and two largest tokens exact", {"first": True, "largest": 2}),
        "rotated": ("rotated", {"rotated": True}),
    }
    found = [
        Way(f"W16A{bits} {name}", 16, "inputs", f"by token, {words}", bits, Served(own, **how))  # type: ignore[arg-type]
        for name, (words, how) in kinds.items()
    ]
    first = Served(keys=kept, values=kept, first=True)
    return [*found, Way(f"KV{cache_bits} -first", 16, "keys and values", "by token, first token exact", 2, first)]


def add(study: Study, ways: Sequence[Way]) -> dict[str, str]:
    """Add the ways to a study that has weights at their bits. From each way's label to the study's."""
    found = {}
    by_bits = {variant.bits: label for label, variant in study.variants.items() if variant.served is None}
    for way in ways:
        of = FULL if way.intact else by_bits[way.weights]
        found[way.label] = of if way.served is None else study.serve(way.label, way.served, of, way.what, way.bits)
    return found
