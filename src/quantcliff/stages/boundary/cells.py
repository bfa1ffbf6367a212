"""The grid: which quantized models there are, and how each comes to be.

2.5 bits: the even layers (0, 2, ...) in 3 bits and the odd ones in 2, half of all modules and half of all weights.
Between 2.5 and 3 bits only the first of the odd layers have 2. On the embedded model that is one checkpoint with two
groups of modules, quantized in one go. On SmolLM2 the layers are put together from its checkpoints of 3 and of 2 bits
(`Cell.composed`), which saves an hour; GPTQ then calibrated each layer behind layers of its own width.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantcliff import models, quantizers
from quantcliff.models import Model, layer_of
from quantcliff.quantizers import Scheme
from quantcliff.stages.boundary.texts import out_of_distribution
from quantcliff.study import Study

BITS = (4.0, 3.0, 2.5, 2.0)
BETWEEN = (2.875, 2.75, 2.625)
"""Of the cells that were added when the grid had been seen (`rules`): 1, 2 and 3 of 8 layers in 2 bits."""

GROUPS = (-1, 128, 64, 32)
DAMPINGS = (0.01, 0.1, 1.0)
IN, OUT = "in", "out"
"""Calibrated on text like the model's own, and on another kind of text."""


@dataclass(frozen=True)
class Cell:
    """One quantized model. `bits` 2.5 is what the module says; `damping` is GPTQ's alone."""

    model: str
    method: str
    bits: float
    group_size: int
    damping: float = Scheme.damping
    calibration: str = IN
    composed: bool = False

    @property
    def label(self) -> str:
        """`Cell("atlas", "gptq", 2.5, 64, 0.1, "out").label` -> `"gptq-2.5bit-g64-d0.1-out"`"""
        parts = [self.method, f"{self.bits:g}bit", "row" if self.group_size == -1 else f"g{self.group_size}"]
        parts += [f"d{self.damping:g}"] * (self.method == "gptq") + [OUT] * (self.calibration == OUT)
        return "-".join(parts)

    @property
    def group(self) -> str:
        """The group size in words: `"row"` or `"64"`."""
        return "row" if self.group_size == -1 else str(self.group_size)

    def scheme(self, n_layers: int) -> Scheme:
        """What quantizes it, for a model of so many layers; with the layers that have 2 bits where others have 3."""
        odd: tuple[tuple[int, int], ...] = ()
        if 2 < self.bits < 3:
            odd = tuple((layer, 2) for layer in range(1, n_layers, 2))[: round((3 - self.bits) * n_layers)]
        bits = 3 if odd else int(self.bits)
        return Scheme(self.method, bits, self.group_size, damping=self.damping, bits_by_layer=odd)


def atlas_grid(
    bits: Sequence[float] = BITS, groups: Sequence[int] = GROUPS, dampings: Sequence[float] = DAMPINGS
) -> list[Cell]:
    """All combinations on the embedded model; plain rounding has no calibration text, and only GPTQ has damping."""
    ways = [("rtn", Scheme.damping, IN)]
    for text in (IN, OUT):
        ways += [*(("gptq", damping, text) for damping in dampings), ("awq", Scheme.damping, text)]
    return [
        Cell("atlas", method, width, size, damping, text)
        for width, size, (method, damping, text) in itertools.product(bits, groups, ways)
    ]


def between_grid() -> list[Cell]:
    """Plain rounding and GPTQ on the embedded model, between 2.5 and 3 bits."""
    ways = itertools.product(BETWEEN, GROUPS, ("rtn", "gptq"))
    return [Cell("atlas", method, width, size) for width, size, method in ways]


def smollm2_grid(bits: Sequence[float] = BITS) -> list[Cell]:
    """Three methods at four widths, groups of 64, calibrated on the model's own text."""
    ways = itertools.product(bits, quantizers.METHODS)
    return [Cell("smollm2", method, width, 64, composed=width == 2.5) for width, method in ways]


def made(study: Study, cell: Cell) -> Model:
    """The cell's model, dequantized, in the units of full precision (`unsmoothed`); a checkpoint is made if there is
    none in RUN/quantized."""
    if cell.composed:
        three, two = (made(study, replace(cell, bits=width, composed=False)) for width in (3.0, 2.0))
        return models.splice(three, two, lambda name: bool(models.LAYER.search(name)) and layer_of(name) % 2 == 1)
    asked = study.parameters
    folder = checkpoint(study, cell)
    loaded = models.load(folder, device=asked.device, dtype=asked.dtype, name=cell.label, base=asked.model)
    return quantizers.unsmoothed(study.base, loaded)


def checkpoint(study: Study, cell: Cell) -> Path:
    """Folder of the cell's checkpoint."""
    scheme = cell.scheme(study.base.hf.config.num_hidden_layers)
    return quantizers.quantize(study.parameters.model, scheme, calibration(study, cell), study.run / "quantized")


def calibration(study: Study, cell: Cell) -> list[str]:
    """Documents that the cell is calibrated on; none for plain rounding."""
    own = study.calibration_for(cell.method)
    return out_of_distribution(study.base.tokenizer, own) if cell.calibration == OUT else own
