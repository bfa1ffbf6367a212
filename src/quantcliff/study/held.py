"""The models of a study: its variants, and those in memory, of which the few last used stay, wrapped for hooks."""

from collections import OrderedDict
from functools import cached_property
from pathlib import Path

from quantcliff import models
from quantcliff.models import Model
from quantcliff.study.parameters import Parameters
from quantcliff.study.variants import FULL, Variant, Variants
from quantcliff.tracing import Runner

RUNNERS_HELD = 3


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
        self._runners: OrderedDict[str, Runner] = OrderedDict()

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
        """The full-precision model, never wrapped by a runner."""
        return self._load(self.parameters.model)

    @property
    def calibration_text(self) -> list[str]:
        """Documents that GPTQ and AWQ are calibrated on."""
        return self._made.calibration_text

    def variant(self, label: str) -> Variant:
        """The variant or reference of that label. Raises InputError where there is none."""
        return self._made[label]

    def model(self, label: str) -> Model:
        """A freshly loaded model: "full" or a variant, dequantized. Yours to change."""
        return self._load(self.parameters.model if label == FULL else self.variant(label).path, label)

    def runner(self, label: str) -> Runner:
        """The runner of "full" or a variant; the few last used stay in memory."""
        if label not in self._runners:
            self._runners[label] = Runner(self.model(label))
            if len(self._runners) > RUNNERS_HELD:
                self._runners.popitem(last=False)
        self._runners.move_to_end(label)
        return self._runners[label]

    def _load(self, source: str | Path, name: str | None = None) -> Model:
        return models.load(source, device=self.parameters.device, dtype=self.parameters.dtype, name=name)
