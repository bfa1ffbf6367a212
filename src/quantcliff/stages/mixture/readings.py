"""One copy of a model in memory, whose matrices are exchanged in place.

Nothing below the first exchanged layer changes, so the streams that enter the layers are kept, and a model with one
unit exchanged is run from that unit's layer on.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from quantcliff import models, quantizers
from quantcliff.models import Model, layer_of
from quantcliff.stages.mixture.losses import Gathered, Losses, works
from quantcliff.stages.mixture.texts import Half
from quantcliff.tracing import Runner, site

Weights = Mapping[str, Tensor]
"""Matrices by full module name."""

Units = Mapping[str, list[str]]
"""Full module names by unit."""


EXACT, FAST = "highest", "medium"
"""Products of float32 numbers as they are; or of numbers rounded to bfloat16 where a processor is made for it (AMX),
summed in float32: twice as fast in all, and off by a tenth of the noise of a loss (`tests/stages/mixture`)."""


@contextmanager
def products(precision: str) -> Iterator[None]:
    """torch's precision of products, for as long as the block runs."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Bench:
    """A model beside the same with other matrices, on one half.

    Args:
        base: full precision; copied, so that it stays as it is.
        precision: of products.
    """

    def __init__(self, base: Model, half: Half, precision: str = EXACT):
        self.half, self.precision, hf = half, precision, copy.deepcopy(base.hf)
        self._own, self._exact = (
            {name.removesuffix(".weight"): weight.detach() for name, weight in model.named_parameters()}
            for model in (hf, base.hf)
        )
        self.runner = Runner(replace(base, hf=hf))
        self.works = works(half)

    def read(self, weights: Weights) -> Losses:
        """What the model loses with these matrices in place of its own; with none, full precision."""
        self._put(weights)
        found = self._read()
        self._put(dict.fromkeys(weights))
        return found

    def one_at_a_time(
        self, units: Units, background: Weights, foreground: Weights, desc: str = "units"
    ) -> Iterator[tuple[str, Losses]]:
        """Each unit's matrices from `foreground`, all others from `background`; what they lack is full precision's."""
        self._put(background)
        layers = [site("resid_pre", layer) for layer in range(self.runner.n_layers)]
        with products(self.precision):
            entering = [self.runner.run(work.ids, record=layers, last=work.last)[1] for work in self.works]
        for unit, modules in tqdm(units.items(), desc=desc, leave=False, disable=None):
            self._put({name: foreground.get(name) for name in modules})
            yield unit, self._read(min(map(layer_of, modules)), entering)
            self._put({name: background.get(name) for name in modules})
        self._put(dict.fromkeys(background))

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor | None]) -> None:
        for name, weight in weights.items():
            self._own[name].copy_(self._exact[name] if weight is None else weight)

    def _read(self, layer: int | None = None, entering: list[dict[str, Tensor]] | None = None) -> Losses:
        gathered = Gathered(self.half)
        for number, work in enumerate(self.works):
            source = work.ids if entering is None or layer is None else entering[number][site("resid_pre", layer)]
            with products(self.precision):
                logits, _ = self.runner.run(source, start_layer=layer, last=work.last)
            gathered.add(work, logits)
        return gathered.losses()


def weights_of(base: Model, folder: Path) -> dict[str, Tensor]:
    """All quantized matrices of a checkpoint, in the units of full precision (`unsmoothed`)."""
    loaded = models.load(folder, device=str(base.hf.device), dtype=str(base.hf.dtype).removeprefix("torch."))
    own = quantizers.unsmoothed(base, loaded)
    return {name: own.hf.get_submodule(name).weight.detach() for name in models.linears(base.hf.config)}  # type: ignore[misc]
