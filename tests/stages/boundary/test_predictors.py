"""A number is judged on what it was not fitted on."""

import numpy as np
import pandas as pd
import pytest
from made_grid import grid

from quantcliff.errors import InputError
from quantcliff.stages.boundary import NUMBERS, Curve, best, compare, left_out, ranking
from quantcliff.stages.boundary.predictors import CONSTANT, rising


def test_a_number_that_decides_is_found() -> None:
    table = grid()
    compared = compare(table)
    ranked = ranking(compared)
    assert best(compared) in ("text_agree", "text_kl")
    first = ranked.set_index("number").loc[best(compared)]
    assert first["model"] < 0.06 and first["method"] < 0.06
    assert first["error"] == pytest.approx((first["model"] + first["method"]) / 2)
    assert ranked.set_index("number").loc[CONSTANT, "error"] > 0.2
    groups = set(zip(compared["way"], compared["left_out"], strict=True))
    left = {"model": ("atlas", "smollm2"), "method": ("rtn", "gptq", "awq")}
    assert groups == {(way, name) for way, names in left.items() for name in names}
    kl = compared[(compared["number"] == "text_kl") & (compared["way"] == "method")]
    assert (kl["order"] > 0.9).all(), "less divergence keeps more"
    ranked = ranked.set_index("number")["error"]
    assert all(ranked[name] < 0.05 for name in ("scaled_kappa", "fact_snr", "sign_flips", "cka")), "all follow one line"
    assert set(compared.loc[~compared["needs_facts"], "number"]) == {CONSTANT, *NUMBERS}


def test_the_group_left_out_is_not_fitted_on() -> None:
    table = pd.DataFrame({
        "cell": list("abcdef"), "model": ["one"] * 3 + ["two"] * 3, "source_snr": [1.0, 2, 3] * 2,
        "kept": [0.1, 0.5, 0.9, 0.8, 0.8, 0.8],
    })  # fmt: skip
    found = left_out(table, "source_snr", "model").set_index("cell")
    assert found.loc[["a", "b", "c"], "predicted"].tolist() == pytest.approx([0.8] * 3)
    assert found.loc[["d", "e", "f"], "predicted"].tolist() == pytest.approx([0.1, 0.5, 0.9])
    constant = left_out(table, CONSTANT, "model").set_index("cell")
    assert constant.loc["d", "predicted"] == pytest.approx(0.5)
    with pytest.raises(InputError, match="all cells have one model"):
        left_out(table[:3], "source_snr", "model")


def test_curves_never_fall_and_stay_shares() -> None:
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"stream_snr": draw.normal(size=60)})
    table["kept"] = (1 / (1 + np.exp(-2 * table["stream_snr"])) + 0.1 * draw.normal(size=60)).clip(0, 1)
    x = np.linspace(-4, 4, 50)
    for form in ("isotonic", "logistic"):
        found = Curve.of(table, "stream_snr", form).at(x)
        assert (np.diff(found) >= -1e-12).all() and found.min() >= 0 and found.max() <= 1
        assert np.abs(found - 1 / (1 + np.exp(-2 * x))).max() < 0.2


def test_numbers_that_fall_are_turned() -> None:
    assert rising(pd.Series([np.e, 1.0, 0.0], name="text_kl")).round(6).tolist() == [-1, 0, 13.815511]
    assert rising(pd.Series([2.0, 1.0], name="sign_flips")).tolist() == [-2, -1]
    assert rising(pd.Series([2.0, 1.0], name="text_agree")).tolist() == [2, 1]
