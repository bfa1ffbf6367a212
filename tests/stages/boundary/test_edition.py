"""The shipped grid is whole, and two of its cells come out again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from quantcliff import cli
from quantcliff.stages import boundary
from quantcliff.stages.boundary import edition as module
from quantcliff.stages.smollm2 import Shipped


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped(boundary.FOLDER)


def test_the_grid_is_whole(shipped: Shipped) -> None:
    assert set(shipped.made["files"]) == {"grid", "layers", "between"} and len(shipped.made["commit"]) == 40
    assert sum(path.stat().st_size for path in boundary.FOLDER.iterdir()) < 6e5, "small enough for git"
    grid, layers = shipped.table("grid"), shipped.table("layers")
    for name, cells in (("atlas", boundary.atlas_grid()), ("smollm2", boundary.smollm2_grid())):
        part = grid[grid["model"] == name]
        assert part["cell"].tolist() == [cell.label for cell in cells] and part["n"].nunique() == 1
        depth = layers[layers["model"] == name].groupby("cell").size()
        assert depth.nunique() == 1 and set(depth.index) == set(part["cell"])
    assert grid[[*boundary.COORDINATES, *boundary.NUMBERS]].notna().all(axis=None)
    assert shipped.table("between")["cell"].tolist() == [cell.label for cell in boundary.between_grid()]
    assert (grid["kept_low"] <= grid["kept"]).all() and (grid["kept"] <= grid["kept_high"]).all()


def test_layers_add_up_in_every_shipped_cell(shipped: Shipped) -> None:
    layers = shipped.table("layers")
    cross = 2 * layers["rho"].fillna(0) * np.sqrt(layers["carried"] * layers["own"])
    total = -10 * np.log10(layers["carried"] + layers["own"] + cross)
    assert total.to_numpy() == pytest.approx(layers["snr"].to_numpy(), rel=1e-6, abs=1e-6)


def test_two_cells_come_out_again(shipped: Shipped, tmp_path: Path) -> None:
    again = boundary.measure(boundary.study_of("atlas", tmp_path, "cpu"), list(boundary.SHOWN))
    found = boundary.parted(again)["grid"].set_index("cell")
    there = shipped.table("grid").query("model == 'atlas'").set_index("cell").loc[found.index]
    assert (found["n"] == there["n"]).all()
    assert np.abs(found["kept"] - there["kept"]).max() < 0.02
    for name, near in (("scaled_kappa", 0.03), ("fact_snr", 0.3), ("sign_flips", 0.01), ("cka", 0.02), ("fed", 0.03),
                       ("text_agree", 0.02), ("source_snr", 0.2), ("overfit", 0.02)):  # fmt: skip
        assert np.abs(found[name] - there[name]).max() < near, name


def test_the_command_makes_and_ships_both_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"cell": ["a", "a"], "model": "m", "layer": pd.array([None, 0], dtype="Int64"),
                         "kept": [0.5, np.nan], "rho": [0.1, 0.2], "carried": [np.nan, 0.3]})  # fmt: skip
    asked: list[tuple[str, int]] = []

    def measured(study: object, cells: list[boundary.Cell]) -> pd.DataFrame:
        asked.append((str(study), len(cells)))
        return rows

    monkeypatch.setattr(module, "measure", measured)
    monkeypatch.setattr(module, "study_of", lambda model, run, device: f"{model} in {run} on {device}")
    monkeypatch.setattr(module.models, "folder_of", lambda model: Path(model))
    monkeypatch.setattr(boundary, "FOLDER", tmp_path / "out")
    result = CliRunner().invoke(cli.app, ["atlas", "boundary", str(tmp_path / "run"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    sizes = (("atlas", 144), ("smollm2", 12), ("atlas", 24))
    assert asked == [(f"{name} in {tmp_path / 'run' / name} on cpu", n) for name, n in sizes]
    found = Shipped(tmp_path / "out")
    assert list(found.table("grid").columns) == ["cell", "model", "kept", "rho"] and len(found.table("grid")) == 2
    assert len(found.table("between")) == 1
    assert list(found.table("layers").columns) == ["cell", "model", "layer", "rho", "carried"]
    assert found.made["command"] == "quantcliff atlas boundary RUN"
