"""The cells of a grid, read from a YAML file and checked before anything is started."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from quantcliff import models, quantizers
from quantcliff.book import read_parameter_file
from quantcliff.errors import InputError
from quantcliff.probes import recall
from quantcliff.study import preset_of


@dataclass(frozen=True)
class Cell:
    """One diagnosis: a model quantized by a method to so many bits, asked with a seed."""

    model: str
    method: str
    bits: int
    seed: int

    @property
    def checkpoint(self) -> str:
        """Name of the quantized model, which all seeds share: `"atlas-gptq-2bit"`."""
        return f"{Path(self.model).name}-{self.method}-{self.bits}bit"

    @property
    def name(self) -> str:
        return f"{self.checkpoint}-seed{self.seed}"


@dataclass(frozen=True)
class Grid:
    """What grid.yml says. Every combination of `models`, `methods`, `bits` and `seeds` is a cell.

    Attributes:
        out: folder of the results.
        n_facts, facts, text, group_size, calibration, device, dtype: as the options of `quantize` and `diagnose`; what
            is not given comes from each model's preset.
        threads: cores that a cell computes on.
        command: the command line of this program where cells run, e.g. in a container.
    """

    models: tuple[str, ...]
    methods: tuple[str, ...] = ("gptq",)
    bits: tuple[int, ...] = (4, 3, 2)
    seeds: tuple[int, ...] = (0,)
    out: str = "runs/grid"
    n_facts: int = 400
    facts: str | None = None
    text: str | None = None
    group_size: int | None = None
    calibration: str | None = None
    device: str = "auto"
    dtype: str | None = None
    threads: int = 1
    command: str | None = None

    @classmethod
    def read(cls, file: Path) -> "Grid":
        """The grid in a YAML file.

        Raises:
            InputError: there is no such file, a name in it is unknown or has a value of another kind, a model cannot be
                read, or a scheme does not fit one.
        """
        given = read_parameter_file(file)
        known = {field.name: field for field in fields(cls)}
        if unknown := sorted(set(given) - set(known)):
            raise InputError(f"{file} has no use for {unknown[0]!r}; it may hold {', '.join(known)}")
        if "models" not in given:
            raise InputError(f"{file} names no models; give at least one")
        grid = cls(**{name: _like(known[name].type, name, value, file) for name, value in given.items()})
        grid.check()
        return grid

    def check(self) -> None:
        """Raises InputError for what could not be run, in any cell."""
        names = [Path(model).name for model in self.models]
        if len(set(names)) < len(names):
            raise InputError(f"two models are called {_twice(names)}; give folders of different names")
        for cell in self.cells():
            config, scheme = models.config_of(cell.model), self.scheme(cell)
            quantizers.check(scheme, config)
        if self.n_facts < 1 or self.threads < 1:
            raise InputError(f"n_facts is {self.n_facts} and threads {self.threads}; give at least 1 of each")
        if self.text:
            recall.documents(self.text)
        models.check_dtype(self.dtype or "float32")

    def cells(self) -> Iterator[Cell]:
        """All cells, those of one checkpoint together."""
        for parts in itertools.product(self.models, self.methods, self.bits, self.seeds):
            yield Cell(*parts)

    def scheme(self, cell: Cell) -> quantizers.Scheme:
        """How a cell's model is quantized."""
        size = self.group_size if self.group_size is not None else preset_of(cell.model).group_size
        return quantizers.Scheme(cell.method, cell.bits, size)

    def quantize(self, cell: Cell) -> list[str]:
        """Options of the command that makes a cell's checkpoint."""
        given = {"method": cell.method, "bits": cell.bits, "group-size": self.scheme(cell).group_size}
        return _options(given | {"calibration": place(self.calibration)})

    def diagnose(self, cell: Cell) -> list[str]:
        """Options of the command that diagnoses it."""
        asked = {"facts": place(self.facts), "text": place(self.text), "n-facts": self.n_facts, "seed": cell.seed}
        return _options(asked | {"device": self.device, "dtype": self.dtype})


def place(source: str | None) -> str | None:
    """A file or folder by its whole path, since a workflow runs in a folder of its own; names stay names."""
    if source is None or source in models.named():
        return source
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def _options(given: Mapping[str, object]) -> list[str]:
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


def _like(kind: Any, name: str, value: Any, file: Path) -> Any:
    """A value of the file as the type of its field; a single value stands for a list of one."""
    wanted = int if "int" in str(kind) else str
    listed = value if isinstance(value, list) else [value]
    if isinstance(value, bool) or not listed or not all(isinstance(item, wanted) for item in listed):
        raise InputError(f"{file}: {name} is {value!r}; give {'whole numbers' if wanted is int else 'text'}")
    if "tuple" in str(kind):
        return tuple(dict.fromkeys(listed))
    if isinstance(value, list):
        raise InputError(f"{file}: {name} is a list; give one value")
    return value


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
