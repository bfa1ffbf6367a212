"""The tables that ship with the book: the grid, cell by cell and layer by layer."""

from pathlib import Path

import pandas as pd

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.stages.boundary.cells import Cell, atlas_grid, between_grid, smollm2_grid
from quantcliff.stages.boundary.measures import measure
from quantcliff.stages.smollm2 import Shipped
from quantcliff.study import Study, preset_of

FOLDER = Path(__file__).parent / "tables"

FACTS = {"atlas": 1040, "smollm2": 200}
"""Facts asked of each model; of the embedded one about 1,000 are known."""

SHOWN = (Cell("atlas", "rtn", 3.0, 64), Cell("atlas", "gptq", 2.5, 64))
"""Cells that the chapter makes again."""


def study_of(model: str, run: Path | str, device: str = "auto") -> Study:
    """The study in which a model's cells are measured; the same facts and text for all of them."""
    own = preset_of(model)
    return Study(
        model, method="gptq,awq,rtn", bits="4,3,2", group_size=64, facts=own.facts, n_facts=FACTS[model],
        calibration=own.calibration, run=run, device=device,
    )  # fmt: skip


def make(run: Path, device: str = "auto") -> dict[str, pd.DataFrame]:
    """The tables `grid` (a row per cell), `layers` (a row per cell and layer) and `between` (the cells that were
    added); a killed run goes on from its cell.

    Raises:
        InputError: SmolLM2 is not on this machine.
    """
    models.folder_of("smollm2")
    found = [
        measure(study_of(model, run / model, device), cells)
        for model, cells in (("atlas", atlas_grid()), ("smollm2", smollm2_grid()))
    ]
    added = parted(measure(study_of("atlas", run / "atlas", device), between_grid()))["grid"]
    return parted(pd.concat(found, ignore_index=True)) | {"between": added}


def parted(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of `measure` as `grid` and `layers`, each with the columns that it fills."""
    whole = rows["layer"].isna()
    parts = {"grid": rows[whole].drop(columns="layer"), "layers": rows[~whole]}
    return {name: part.dropna(axis=1, how="all").reset_index(drop=True) for name, part in parts.items()}


def shipped_grid() -> pd.DataFrame:
    """The grid that comes with the package. Raises InputError where it does not, or is not the one that was shipped."""
    if not (FOLDER / "made.json").is_file():
        raise InputError("this package has no grid to predict from; make it with `quantcliff atlas boundary RUN`")
    return Shipped(FOLDER).table("grid")
