"""The models of a study: its variants, and those in memory, of which the few last used stay, wrapped for hooks."""

from collections import OrderedDict
from functools import cached_property
from pathlib import Path

from quantcliff import models
from quantcliff.models import Model, Served
from quantcliff.study.parameters import Parameters
from quantcliff.study.variants import FULL, Variant, Variants
from quantcliff.tracing import Runner

VARIANTS_HELD = 2
"""Quantized models in memory beside full precision, each once."""


class Held:
    """Models and runners by label: "full", a variant, or a reference.

    Attributes:
        parameters: what was asked for.
        variants: the quantized models by label, e.g. "gptq-4bit-g128", in the order of `method`, then `bits`.
        references: for each method the variant whose errors make the failure subset: 4 bits, or the reader's own model.
    """

    def __init__(self, parameters: Parameters):
        self.parameters = parameters
        self._made = Variants(parameters)
        self.variants, self.references = self._made.asked, self._made.references
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._runners: dict[str, Runner] = {}

    @property
    def seed(self) -> int:
        """Decides every random draw."""
        return self.parameters.seed

    @property
    def run(self) -> Path:
        """Folder of results."""
        return self.parameters.run

    @property
    def labels(self) -> list[str]:
        """ "full", then the labels of all variants."""
        return [FULL, *self.variants]

    @cached_property
    def base(self) -> Model:
        """The full-precision model, never wrapped by a runner: that has modules of its own."""
        return self._load(self.parameters.model)

    @property
    def calibration_text(self) -> list[str]:
        """Documents that GPTQ is calibrated on, and whatever else looks at running text."""
        return self.calibration_for("gptq")

    def calibration_for(self, method: str) -> list[str]:
        """Documents that a method is calibrated on."""
        return self._made.calibration_text(method)

    def variant(self, label: str) -> Variant:
        """The variant or reference of that label. Raises InputError where there is none."""
        return self._made[label]

    def serve(self, label: str, served: Served, of: str = FULL, method: str = "served", bits: int = 16) -> str:
        """Add a variant, `of` ("full" or a variant) with inputs or cache quantized while it runs; gives its label."""
        self._made.add(label, served, of, method, bits)
        return label

    def model(self, label: str) -> Model:
        """ "full" or a variant, dequantized: modules of your own on weights that all users of this study share, so copy
        a weight before you change it (`models.twin`)."""
        return models.twin(self.base if label == FULL else self._held(label), label)

    def runner(self, label: str) -> Runner:
        """The runner of "full" or a variant; full precision's and those of the few variants last used stay."""
        if label != FULL:
            self._held(label)
        if label not in self._runners:
            self._runners[label] = Runner(self.model(label))
        return self._runners[label]

    def _held(self, label: str) -> Model:
        """The one copy of a variant in memory; the one that was used longest ago makes room."""
        if label not in self._models:
            if len(self._models) == VARIANTS_HELD:
                oldest, _ = self._models.popitem(last=False)
                self._runners.pop(oldest, None)
            variant = self.variant(label)
            self._models[label] = models.serve(self._load(variant.path, label), variant.served)
        self._models.move_to_end(label)
        return self._models[label]

    def _load(self, source: str | Path, name: str | None = None) -> Model:
        return models.load(
            source, device=self.parameters.device, dtype=self.parameters.dtype, name=name, base=self.parameters.model
        )
