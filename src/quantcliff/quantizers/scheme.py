"""What to quantize and how: the `Scheme`, the layers it applies to, and what it costs in bits."""

import math
from dataclasses import dataclass

from transformers import PretrainedConfig

from quantcliff.errors import InputError
from quantcliff.models import layer_of, linears, sideways

METHODS = ("gptq", "awq", "rtn")
"""Methods that the book compares."""

TRAINED = "autoround"
"""The method that trains which way each weight is rounded, layer by layer: AutoRound (arXiv 2309.05516)."""
SCALE_BITS = 16
"""A scale is counted as half precision, the way checkpoints are shipped; a zero point has the bits of its weights."""


@dataclass(frozen=True)
class Scheme:
    """How to quantize the weights of a decoder's linear layers; embeddings, head and norms are always left alone.

    Attributes:
        method: "gptq", "awq", "rtn" or "autoround".
        bits: 2 to 8.
        group_size: weights of one row that share a scale and a zero point; -1 for the whole row.
        symmetric: no zero point; levels lie around 0.
        damping: GPTQ only: share of the mean diagonal that is added to the diagonal of its Hessian.
        layers: numbers of the decoder layers to quantize; None for all.
        modules: last parts of the names of the modules to quantize, such as "down_proj"; None for all.
        bits_by_layer: pairs (layer, bits) that replace `bits`.
        bits_by_module: pairs (full module name, bits) that replace `bits` and `bits_by_layer`.
    """

    method: str = "gptq"
    bits: int = 4
    group_size: int = 128
    symmetric: bool = False
    damping: float = 0.01
    layers: tuple[int, ...] | None = None
    modules: tuple[str, ...] | None = None
    bits_by_layer: tuple[tuple[int, int], ...] = ()
    bits_by_module: tuple[tuple[str, int], ...] = ()

    @property
    def label(self) -> str:
        """`Scheme("gptq", 4, 128).label` -> `"gptq-4bit-g128"`"""
        parts = [self.method, f"{self.bits}bit", "row" if self.group_size == -1 else f"g{self.group_size}"]
        parts += ["sym"] * self.symmetric
        parts += ["part"] * (self.layers is not None or self.modules is not None)
        parts += ["mixed"] * bool(self.bits_by_layer or self.bits_by_module)
        return "-".join(parts)

    def plan(self, config: PretrainedConfig) -> dict[str, int]:
        """Bits of every module that this scheme quantizes, by full module name."""
        by_layer, by_module = dict(self.bits_by_layer), dict(self.bits_by_module)
        return {
            name: by_module.get(name, by_layer.get(layer_of(name), self.bits))
            for name in linears(config)
            if (self.layers is None or layer_of(name) in self.layers)
            and (self.modules is None or name.rsplit(".", 1)[1] in self.modules)
        }

    def check(self, config: PretrainedConfig) -> None:
        """Raises InputError when the scheme does not fit a model of this configuration."""
        if self.method not in (*METHODS, TRAINED):
            raise InputError(f"method is {self.method!r}; choose one of {', '.join((*METHODS, TRAINED))}")
        for bits in (self.bits, *dict(self.bits_by_layer).values(), *dict(self.bits_by_module).values()):
            if not 2 <= bits <= 8:
                raise InputError(f"{bits} bits cannot be stored; choose 2 to 8")
        if not 0 < self.damping < math.inf:
            raise InputError(f"damping is {self.damping}; give a positive number such as 0.01")
        shapes = linears(config)
        if not shapes:
            raise InputError(
                f"a {config.model_type} model has no torch.nn.Linear in its layers, so llm-compressor cannot quantize "
                "it; choose a Llama, Mistral, Qwen, Gemma or GPT-NeoX model"
            )
        if sideways(config):
            raise InputError(
                f"a {config.model_type} model keeps its weights in Conv1D, of which llm-compressor stores no packed "
                "file that transformers could read; quantize it with GPTQModel or llama.cpp, and diagnose what that "
                "writes"
            )
        n_layers = 1 + max(map(layer_of, shapes))
        for layer in (*(self.layers or ()), *dict(self.bits_by_layer)):
            if not 0 <= layer < n_layers:
                raise InputError(f"there is no layer {layer}; the model has layers 0 to {n_layers - 1}")
        kinds = {name.rsplit(".", 1)[1] for name in shapes}
        if unknown := [*sorted(set(self.modules or ()) - kinds), *sorted(set(dict(self.bits_by_module)) - set(shapes))]:
            raise InputError(f"the model has no module {unknown[0]!r}; its modules are {', '.join(sorted(kinds))}")
        plan = self.plan(config)
        if not plan:
            raise InputError("the chosen layers and modules leave nothing to quantize")
        common = math.gcd(*(shapes[name][1] for name in plan))
        if self.group_size != -1 and (self.group_size < 1 or common % self.group_size):
            fitting = [size for size in (16, 32, 64, 128, 256) if common % size == 0]
            choices = ", ".join(map(str, [*fitting, -1]))
            raise InputError(
                f"group size {self.group_size} does not divide the rows of this model's weights; "
                f"choose one of {choices} (-1 is one group per row)"
            )


def average_bits(config: PretrainedConfig, scheme: Scheme) -> float:
    """Bits per weight over all linear layers of the decoder, scales and zero points counted.

    A linear layer that the scheme leaves alone counts with 16 bits. 4 bits in groups of 128 cost
    4 + (16 + 4)/128 = 4.16 bits.
    """
    shapes, plan = linears(config), scheme.plan(config)
    total = 0.0
    for name, (rows, columns) in shapes.items():
        if (bits := plan.get(name)) is None:
            total += 16 * rows * columns
            continue
        total += stored_bits((rows, columns), bits, scheme.group_size, scheme.symmetric)
    return total / sum(rows * columns for rows, columns in shapes.values())


def stored_bits(shape: tuple[int, int], bits: int, group_size: int, symmetric: bool = False) -> int:
    """Bits that a matrix of so many rows and columns takes, scales and zero points counted.

    >>> stored_bits((1, 128), 4, 128) / 128
    4.15625
    """
    rows, columns = shape
    groups = rows * (1 if group_size == -1 else columns // group_size)
    return bits * rows * columns + groups * (SCALE_BITS + (0 if symmetric else bits))
