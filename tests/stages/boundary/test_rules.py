"""Every rule can hold and can fail."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from made_grid import between, grid, layers

from quantcliff.charts import boundary as charts
from quantcliff.stages.boundary import (
    COORDINATES,
    at_equal_snr,
    beside_rounding,
    between_way,
    left_out,
    off,
    rules,
    standardised,
)
from quantcliff.stages.boundary.kinds import Kinds

ATLAS = grid().query("model == 'atlas'")
ENDS = np.stack([standardised(ATLAS)[ATLAS["bits"] == bits].mean(0) for bits in (4, 2)])


def kinds(gain: float = 0.0, members: np.ndarray | None = None) -> Kinds:
    """Components whose means are those of 4 and of 2 bits; cells of 4 and 3 bits stand at one end, the others at the
    other."""
    way = np.where(ATLAS["bits"] >= 3, 0.0, 1.0)
    nobody = np.zeros(144, dtype=int)
    return Kinds(gain, np.zeros(99), np.zeros(99), nobody if members is None else members, way, ENDS)


def found(
    table: pd.DataFrame, rho: float = 0.0, two: Kinds | None = None, added: pd.DataFrame | None = None
) -> dict[str, bool]:
    return rules(table, layers(table, rho), two or kinds(), between() if added is None else added)


def test_the_made_up_grid() -> None:
    held = found(grid())
    assert {name for name, value in held.items() if value} == {
        "a matter of degree", "the gap is the grid's", "kappa predicts", "it needs a constant", "it is not noise alone",
        "SNR is enough", "errors add like independent noise", "a number is worth its cost",
    } | ({"it is good enough"} if held["it is good enough"] else set())  # fmt: skip


CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "kappa predicts": lambda t: t.assign(predicted=t["observed"] + 0.031),
    "it needs a constant": lambda t: t.assign(shifted=t["observed"] + 0.006),
    "it is not noise alone": lambda t: t.assign(likelihood_one=np.where(t["bits"] == 3, 0.0, -2.0)),
    "at 2 bits nothing is left": lambda t: t.assign(likelihood_zero=np.where(t["bits"] == 2, -1.0, -2.0)),
    "the published kappas hold": lambda t: t.assign(kappa=t["bits"].map({4: 0.8, 3: 0.4, 2.5: 9, 2: 0.1})),
    "SNR is enough": lambda t: t.assign(kept=t["kept"] * np.where(t["method"] == "awq", 0.5, 1.0)),
    "the third mode is here": lambda t: t.assign(
        overfit=np.where(t["cell"] == "gptq-3bit-g64-d0.01", 1.1, 0.7),
        kept_high=np.where(t["cell"] == "gptq-3bit-g64-d0.01", 0.0, t["kept_high"]),
    ),
    "the ratio foretells": lambda t: t.assign(overfit=-beside_rounding(t)["beyond"].reindex(t.index).fillna(0)),
}


@pytest.fixture(scope="module")
def before() -> dict[str, bool]:
    return found(grid())


@pytest.mark.parametrize("name", CHANGES)
def test_a_rule_turns_with_what_it_is_about(name: str, before: dict[str, bool]) -> None:
    assert found(CHANGES[name](grid()))[name] != before[name]


def test_rules_about_layers_and_kinds() -> None:
    table = grid()
    assert not found(table, rho=-0.2)["errors add like independent noise"]
    held = found(table, two=kinds(50.0))
    assert held["two kinds"] and not held["a matter of degree"]
    modes = table.loc[table["model"] == "atlas", "mode"].to_numpy()
    alike = kinds(50.0, (modes == "computation collapse").astype(int))
    assert found(table, two=alike)["the two components are the verdict's modes"]


def test_added_cells_fill_the_gap_or_they_do_not() -> None:
    table, ends = grid(), kinds()
    way = between_way(table, between(), ends)
    assert len(way) == 24 and 0.3 < way.min() < way.max() < 0.9
    held = found(table)
    assert held["the gap is the grid's"] and not held["the gap stays"]
    far = between().assign(bits=2.0, **{name: ATLAS[ATLAS["bits"] == 2][name].mean() for name in COORDINATES})
    held = found(table, added=far)
    assert held["the gap stays"] and not held["the gap is the grid's"]
    assert not found(table, added=pd.concat([between()[:8], far]))["the gap stays"]


def test_gptq_stands_beside_rounding_of_the_same_grid() -> None:
    table = grid()
    beside = beside_rounding(table)
    assert set(beside["method"]) == {"gptq"} and len(beside) == 96 + 4
    row = beside[beside["cell"] == "gptq-3bit-g32-d0.1-out"].iloc[0]
    plain = table[table["cell"] == "rtn-3bit-g32"].iloc[0]
    assert row["beyond"] == pytest.approx(row["kept"] - plain["kept"])
    assert row["worse"] == (row["kept_high"] < plain["kept_low"])
    assert off(table).to_numpy() == pytest.approx(0.01)
    even = at_equal_snr(table)
    assert len(even) == 6 and even["size"].sum() == len(table)
    lifted = table.assign(kept=table["kept"] + 0.2 * (table["method"] == "awq"))
    moved = at_equal_snr(lifted).set_index(["model", "method"])["mean"]
    assert moved.loc[("atlas", "awq")] > 0.1 > 0 > moved.loc[("atlas", "gptq")]


def test_charts_say_what_they_show() -> None:
    table = grid()
    words = charts.scatter(table[table["model"] == "atlas"]).to_dict()
    assert "2.5 bits:" in words["description"]
    assert "margin contraction over SNR of the last stream" in words["description"]
    assert "144 quantized models" in " ".join(words["title"])
    both = pd.concat([table[["cell", "bits", "method", "kept"]], between()[["cell", "bits", "method", "kept"]]])
    words = charts.along(both.assign(way=0.25)).to_dict()["description"]
    assert words.count("0.25 to 0.25") == 7 and "2.875 bits: 0.25" in words
    words = charts.foretold(left_out(table, "text_agree", "model"), "text_agree").to_dict()["description"]
    assert "smollm2 left out: off by" in words
    titled = charts.foretold(left_out(table, "text_agree", "model"), "text_agree", "same next word").to_dict()
    assert titled["title"] == ["Foretold by same next word"]
    assert "predicted from same next word" in titled["description"]
    words = charts.budget(layers(table)).to_dict()["description"]
    assert "4 bits: 1.10" in words and "2 bits: 1.10" in words
    rows = [{"facts": 5000, "layers": 8, "method": method, "bits": bits, "group_size": 32, "density": bits / 10,
             "density_low": 0.0, "density_high": 1.0} for method in ("full", "gptq") for bits in (8, 2)]  # fmt: skip
    words = charts.knowledge(pd.DataFrame(rows)).to_dict()["description"]
    assert "5,000 facts, 8 layers at 8 bits: 0.800; 5,000 facts, 8 layers at 2 bits: 0.200" in words


def test_the_way_down_says_how_many_lean_right_at_each_width() -> None:
    rows = [("small", 4.0, 0.9, 1.0), ("small", 2.75, 0.4, 0.9), ("real", 2.0, 0.0, 0.5)]
    cells = pd.DataFrame(rows, columns=["model", "bits", "kept", "forms"]).assign(cell="c")
    spec = charts.leaning(cells).to_dict()
    assert "real at 2 bits: 0% to 0% kept, 50% to 50% lean right" in spec["description"]
    (data,) = [part for part in spec["datasets"].values() if len(part) == 3]
    assert [row["bits"] for row in data] == ["4", "between", "2"]
    color = spec["layer"][-1]["encoding"]["color"]["scale"]
    assert color["domain"] == ["4", "between", "2"] and len(set(color["range"])) == 3
