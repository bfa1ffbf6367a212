"""What is quantized while a model runs, beside its weights: inputs of its linear layers, keys, values.

A `Served` only says it; `tracing.serving` does it, in every forward pass, with compressed-tensors' fake quantization.
Settings have the names of its `QuantizationArgs`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Settings = Mapping[str, Any]
"""num_bits, type ("int", "float"), symmetric, strategy, dynamic, where the strategy needs it group_size; scale_dtype.

Strategies of inputs: "token", "group", "tensor", or "tensor_group" (NVFP4: dynamic is "local"; scales of groups come
with the inputs, and are themselves rounded, in units of a scale that stands in the file). Of keys and values: "token"
(a scale for each token and head), "group" (more than one for each token and head), "channel" (one for each channel of a
head and `group_size` tokens), "tensor".
"""


@dataclass(frozen=True)
class Served:
    """What of a model is quantized while it runs; nothing of it, and it is the plain model.

    Attributes:
        inputs: of every linear layer of the decoder; unless "dynamic" is True their scales are `scales`.
        inputs_of: full module name -> settings of its inputs; then no other layer's are quantized.
        keys: after rotary positions, as a cache stores them; `values`.
        scales: full module name -> scale of its input (NVFP4: the common one), or of the keys ("NAME.k") and values
            ("NAME.v") of an attention.
        first: leave the first token of every prompt alone; `largest`: and so many tokens with the largest numbers.
        rotated: turn every input by a Hadamard matrix, and the weights that read it, before it is quantized.
        keys_left, values_left: layers whose keys, whose values are left alone.
    """

    inputs: Settings | None = None
    inputs_of: Mapping[str, Settings] = field(default_factory=dict)
    keys: Settings | None = None
    values: Settings | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    first: bool = False
    largest: int = 0
    rotated: bool = False
    keys_left: tuple[int, ...] = ()
    values_left: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """`"inputs in 8 bits, keys and values in 4 bits"`, `"inputs of 28 linear layers in 8 bits"`"""
        widths = Counter(settings["num_bits"] for settings in self.inputs_of.values())
        some = [
            f"inputs of {count} linear layer{'s' * (count > 1)} in {bits} bits"
            for bits, count in sorted(widths.items(), reverse=True)
        ]
        both = self.keys and self.values and self.keys["num_bits"] == self.values["num_bits"]
        parts = {"inputs": self.inputs}
        parts |= {"keys and values": self.keys} if both else {"keys": self.keys, "values": self.values}
        return ", ".join([*some, *(f"{name} in {part['num_bits']} bits" for name, part in parts.items() if part)])

    def inputs_at(self, decoder: Iterable[str]) -> dict[str, Settings]:
        """Full module name -> settings, of the linear layers whose inputs are quantized; `decoder`: the names of those
        inside its layers."""
        return dict(self.inputs_of) or (dict.fromkeys(decoder, self.inputs) if self.inputs else {})

    @property
    def content(self) -> dict[str, Any]:
        """Plain values that stand for it."""
        return json.loads(json.dumps(asdict(self), sort_keys=True, default=dict))


def by_token(bits: int, symmetric: bool = True) -> dict[str, Any]:
    """One scale for each token, taken from it as it comes."""
    return {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "token", "dynamic": True}


def by_tensor(bits: int) -> dict[str, Any]:
    """One scale for a whole input, known beforehand."""
    return {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}


def in_groups(bits: int, size: int, strategy: str = "group") -> dict[str, Any]:
    """Asymmetric, one scale for `size` channels of a token ("group") or `size` tokens of a channel ("channel")."""
    return by_token(bits, symmetric=False) | {"strategy": strategy, "group_size": size}
