"""Every rule can hold and can fail."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from made_grid import grid, layers

from quantcliff.charts import boundary as charts
from quantcliff.stages.boundary import at_equal_snr, beside_rounding, left_out, off, rules
from quantcliff.stages.boundary.kinds import Kinds

ONE = Kinds(0.0, np.zeros(9), np.zeros(9), np.zeros(144, dtype=int), np.full(144, 0.5))


def found(table: pd.DataFrame, rho: float = 0.0, kinds: Kinds = ONE) -> dict[str, bool]:
    return rules(table, layers(table, rho), kinds)


def test_the_made_up_grid() -> None:
    held = found(grid())
    assert {name for name, value in held.items() if value} == {
        "a matter of degree", "kappa predicts", "it needs a constant", "it is not noise alone", "SNR is enough",
        "errors add like independent noise", "a number is worth its cost",
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
    two = Kinds(50.0, np.zeros(99), np.zeros(99), np.zeros(144, dtype=int), np.repeat([0.0, 1.0], 72))
    assert found(table, kinds=two)["two kinds"] and not found(table, kinds=two)["a matter of degree"]
    modes = table.loc[table["model"] == "atlas", "mode"].to_numpy()
    alike = Kinds(50.0, np.zeros(9), np.zeros(9), (modes == "computation collapse").astype(int), np.zeros(144))
    assert found(table, kinds=alike)["the two components are the verdict's modes"]


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
    words = charts.foretold(left_out(table, "text_agree", "model"), "text_agree").to_dict()["description"]
    assert "smollm2 left out: off by" in words
    words = charts.budget(layers(table)).to_dict()["description"]
    assert "4 bits: 1.10" in words and "2 bits: 1.10" in words
    rows = [{"model": "a", "facts": 5000, "method": method, "bits": bits, "group_size": 32, "density": bits / 10,
             "density_low": 0.0, "density_high": 1.0} for method in ("full", "gptq") for bits in (8, 2)]  # fmt: skip
    words = charts.knowledge(pd.DataFrame(rows)).to_dict()["description"]
    assert "a, 5,000 facts at 8 bits: 0.800; a, 5,000 facts at 2 bits: 0.200" in words
