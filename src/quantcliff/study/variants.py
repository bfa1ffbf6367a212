"""The quantized models of a study: which there are, and how each checkpoint comes to be when it is first asked for."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from quantcliff import models, quantizers
from quantcliff.errors import InputError
from quantcliff.models import Served
from quantcliff.quantizers import Scheme
from quantcliff.study.parameters import Parameters

FULL = "full"
"""Label of the full-precision model."""

REFERENCE_BITS = 4
"""The failure subset is what the variant with this many bits gets wrong (arXiv 2604.19884, set-up)."""


@dataclass(frozen=True)
class Variant:
    """A quantized model of the study; `path` makes the checkpoint when it is first asked for. `served`: what is
    quantized besides while it runs."""

    label: str
    method: str
    bits: int
    group_size: int
    scheme: Scheme | None
    """None for a checkpoint that the reader brought."""
    make: Callable[[], Path] = field(repr=False, compare=False)
    served: Served | None = None

    @cached_property
    def path(self) -> Path:
        """Folder of the checkpoint."""
        return self.make()


class Variants:
    """All variants of one study.

    Attributes:
        asked: by label, e.g. "gptq-4bit-g128", in the order of `method`, then `bits`; or the reader's own alone.
        references: for each method the variant whose errors make the failure subset: 4 bits, or the reader's own.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        self._texts: dict[str, list[str]] = {}
        if parameters.quantized:
            own = _own(models.folder_of(parameters.quantized))
            self.asked, self.references = {own.label: own}, {own.method: own}
            return
        found = [self._scheme(method, bits) for method in parameters.methods for bits in parameters.bits]
        self.asked = {variant.label: variant for variant in found}
        self.references = {method: self._scheme(method, REFERENCE_BITS) for method in parameters.methods}

    def __getitem__(self, label: str) -> Variant:
        """The variant or reference of that label. Raises InputError where there is none."""
        known = self.asked | {reference.label: reference for reference in self.references.values()}
        if label not in known:
            raise InputError(f"there is no variant {label!r}; this study has {', '.join([FULL, *self.asked])}")
        return known[label]

    def add(self, label: str, served: Served, of: str = FULL, method: str = "served", bits: int = 16) -> None:
        """One more variant: full precision, or another variant, with inputs or cache quantized while it runs.

        Raises:
            InputError: there is another of that label.
        """
        if of == FULL:
            folder = models.folder_of(self._parameters.model)
            other = Variant(FULL, FULL, bits, -1, None, lambda: folder)
        else:
            other = self[of]
        new = replace(other, label=label, method=method, bits=bits, served=served)
        if self.asked.setdefault(label, new) != new:
            raise InputError(f"there is another variant {label!r} already; give this one a name of its own")

    def calibration_text(self, method: str) -> list[str]:
        """Documents that a method is calibrated on; none for plain rounding."""
        if method == "rtn":
            return []
        if method not in self._texts:
            source, model = self._parameters.calibration, self._parameters.model
            self._texts[method] = quantizers.calibration_text(source, model=model, method=method)
        return self._texts[method]

    def content(self, label: str) -> object:
        """What stands for a variant's weights, beside its base, where a table must know whether they changed."""
        if label == FULL:
            return None
        variant = self[label]
        found: object = None
        if scheme := variant.scheme:
            found = [asdict(scheme), self.calibration_text(scheme.method)]
        else:
            found = models.digest_of(variant.path)
        return [found, variant.served.content] if variant.served else found

    def _scheme(self, method: str, bits: int) -> Variant:
        scheme = Scheme(method=method, bits=bits, group_size=self._parameters.group_size)

        def make() -> Path:
            cache = self._parameters.run / "quantized"
            return quantizers.quantize(self._parameters.model, scheme, self.calibration_text(method), cache)

        return Variant(scheme.label, method, bits, scheme.group_size, scheme, make)


def _own(folder: Path) -> Variant:
    stated = models.grid_of(folder)
    if stated is None:
        raise InputError(f"{folder} states no quantization, and its weights lie on no grid; give a quantized model")
    if not isinstance(stated["bits"], int):
        raise InputError(f"{folder} does not state its bits in config.json, so it cannot be held to a standard")
    served = models.served_of(folder)
    return Variant(folder.name, stated["method"], stated["bits"], stated["group_size"], None, lambda: folder, served)
