"""What a model's studies start from: the entries of presets.yaml, and defaults that fit a model it does not know."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from quantcliff import smollm2
from quantcliff.errors import InputError
from quantcliff.models import config_of, folder_of, linears, named

GROUP_SIZES = (128, 64, 32)
"""Tried in this order for an unknown model; one group per row where none of them fits."""

PARAMETERS = ("facts", "calibration", "group_size", "dtype", "n_facts", "n_prompts", "n_patched")


@dataclass(frozen=True)
class Preset:
    """An entry of presets.yaml, whose head explains the fields; `note` is a sentence for the user, or empty."""

    facts: str
    calibration: str
    group_size: int
    dtype: str
    n_facts: int
    methods: tuple[str, ...]
    widths: tuple[int, ...]
    n_prompts: int | None = None
    n_patched: int | None = None
    models: tuple[str, ...] = ()
    note: str = ""

    @property
    def parameters(self) -> dict[str, Any]:
        """Values for the chapters' parameters of these names; `method` is among them where there is but one."""
        own = {name: getattr(self, name) for name in PARAMETERS if getattr(self, name) is not None}
        return own | ({"method": self.methods[0]} if len(self.methods) == 1 else {})

    def fill(self, given: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
        """What is given, and for those of `names` that are not, what the preset says."""
        return {name: value for name, value in self.parameters.items() if name in names} | dict(given)


@cache
def known() -> dict[str, Preset]:
    """All entries of the file by name."""
    entries = yaml.safe_load((Path(__file__).parent / "presets.yaml").read_text(encoding="utf-8"))
    found = {}
    for name, entry in entries.items():
        fields: dict[str, Any] = {field: tuple(v) if isinstance(v, list) else v for field, v in entry.items()}
        found[name] = Preset(**fields)
    return found


def preset_of(model: str | Path, name: str | None = None) -> Preset:
    """The preset of that name, or else the one of a model: its own, or one that fits it.

    Raises:
        InputError: there is no preset of that name, or no such model.
    """
    if name:
        if name not in known():
            raise InputError(f"there is no preset {name!r}; choose one of {', '.join(known())}")
        return known()[name]
    folder = folder_of(model)
    for own, place in named().items():
        if place.is_dir() and place.samefile(folder):
            return known()[own]
    return _fitting(model)


def _fitting(model: str | Path) -> Preset:
    """Facts of the real model beside the embedded one, text of the model's own, groups that divide all rows."""
    base = known()[smollm2.NAME]
    columns = {shape[1] for shape in linears(config_of(model)).values()}
    size = next((size for size in GROUP_SIZES if all(width % size == 0 for width in columns)), -1)
    groups = "one group per row" if size == -1 else f"groups of {size}"
    why = "" if size == GROUP_SIZES[0] else f" ({GROUP_SIZES[0]} does not divide all rows of its weights)"
    note = f"{Path(model).name} has no preset: {groups}{why}, facts {base.facts}, calibration {base.calibration}"
    return Preset(base.facts, base.calibration, size, base.dtype, base.n_facts, base.methods, base.widths, note=note)
