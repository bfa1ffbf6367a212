"""What is asked, as given: parameters of a study, turned into their types and checked before anything long begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantcliff import models
from quantcliff.errors import InputError

DEFAULTS = {"model": "atlas", "quantized": "", "method": "gptq", "bits": "4,3,2", "group_size": 128, "facts": "atlas",
            "text": "", "n_facts": 4000, "dtype": "float32", "seed": 0, "calibration": "atlas"}  # fmt: skip
"""The study the book was written about."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of a study in their own types; `Study` says what each means."""

    model: str
    quantized: str
    methods: tuple[str, ...]
    bits: tuple[int, ...]
    group_size: int
    facts: str
    text: str
    n_facts: int
    device: str
    dtype: str
    seed: int
    run: Path
    calibration: str

    @classmethod
    def parse(
        cls, *, method: str | Sequence[str], bits: int | str | Sequence[int], group_size: int | str,
        n_facts: int | str, seed: int | str, device: str, dtype: str, run: str | Path, text: str | Path | None,
        quantized: str | Path | None, **sources: str | Path,
    ) -> "Parameters":  # fmt: skip
        """Parameters from what a notebook or a command line gives.

        Args:
            sources: model, facts and calibration.

        Raises:
            InputError: one of them cannot be understood, or names a device or dtype that is not there.
        """
        methods = tuple(part.strip() for part in method.split(",")) if isinstance(method, str) else tuple(method)
        widths = _numbers(bits)
        if not methods or not widths:
            raise InputError(f"no {'bits are' if methods else 'method is'} given; give at least one")
        models.check_dtype(dtype)
        return cls(
            methods=methods, bits=widths, group_size=_number(group_size, "group_size"),
            n_facts=_number(n_facts, "n_facts"), seed=_number(seed, "seed"), device=models.check_device(device),
            dtype=dtype, run=Path(run), text=str(text or ""), quantized=str(quantized or ""),
            **{name: str(value) for name, value in sources.items()},
        )  # fmt: skip

    def are_default_but(self, **chapter: object) -> bool:
        """Whether this is the study the book was written about, but for a chapter's own defaults."""
        here = {name: getattr(self, name) for name in DEFAULTS if name not in ("method", "bits")}
        here |= {"method": ",".join(self.methods), "bits": ",".join(map(str, self.bits))}
        return here == DEFAULTS | chapter


def _number(value: object, name: str) -> int:
    try:
        return int(str(value).strip())
    except ValueError as error:
        raise InputError(f"{name} is {value!r}; give a whole number") from error


def _numbers(bits: int | str | Sequence[int]) -> tuple[int, ...]:
    parts = str(bits).split(",") if isinstance(bits, (int, str)) else list(bits)
    return tuple(dict.fromkeys(_number(part, "bits") for part in parts))
