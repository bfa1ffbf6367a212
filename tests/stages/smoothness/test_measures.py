"""Rows of a study say what its models do; full precision beside itself is at 1, and its twin is itself."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff import models, stats
from quantcliff.charts import smoothness as charts
from quantcliff.errors import InputError
from quantcliff.stages import smoothness
from quantcliff.stages.boundary import Cell
from quantcliff.stages.smoothness import (
    ALL,
    INSIDE,
    MATCHED,
    NEAR,
    PLAIN,
    RADIUS,
    RANDOM,
    Bench,
    Inputs,
    Sizes,
    edition,
    slopes,
)
from quantcliff.stages.smoothness import measures as module
from quantcliff.stages.smoothness.seen import NONE, RADII, SHARES
from quantcliff.study import Study

SMALL = Sizes(sequences=6, tokens=12, finite=4, directions=1, probes=2, prefixes=4, prefix=8, trees=5, places=2, near=3,
              depth=2, cap=8, samples=8)  # fmt: skip


@pytest.fixture(scope="module")
def study(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    run = tmp_path_factory.mktemp("run")
    text = run / "text.txt"
    text.write_text("\n\n".join(TEXT * 4))
    return OwnAnswers(tiny_llama, method="rtn", bits="8,2", group_size=16, run=run, calibration=text)


@pytest.fixture(scope="module")
def table(study: Study) -> pd.DataFrame:
    return smoothness.measure(study, SMALL, {"another": study.variant("rtn-2bit-g16").path})


def value(table: pd.DataFrame, variant: str, measure: str, part: str = "", at: float | None = None, twin: str = PLAIN):
    rows = table[(table["variant"] == variant) & (table["measure"] == measure) & (table["part"] == part)]
    rows = rows[(rows["twin"] == twin) & (rows["at"].isna() if at is None else np.isclose(rows["at"], at))]
    assert len(rows) == 1
    return rows.iloc[0]


def test_full_precision_beside_itself(table: pd.DataFrame) -> None:
    rows = table[(table["variant"] == "full") & (table["measure"] != "tau")]
    assert set(rows["twin"]) == {PLAIN}
    own = rows[~rows["measure"].isin(["nodes", *SHARES])]
    assert own["ratio"].to_numpy() == pytest.approx(1) and own["ratio_low"].to_numpy() == pytest.approx(1)
    assert rows[rows["measure"].isin(SHARES)]["ratio"].isna().all()
    kept = rows[rows["measure"] == "paths_kept"]["estimate"].item()
    assert np.isnan(kept) or kept == 1
    for part in (INSIDE, ALL):
        assert value(table, "full", "direction", part)["estimate"] == pytest.approx(1, abs=1e-4)
        assert value(table, "full", "spread", part)["estimate"] < 3
        assert abs(value(table, "full", "direction_chance", part)["estimate"]) < 0.6
    for kind in (NEAR, RANDOM):
        assert value(table, "full", "survival", kind)["estimate"] == 1
        assert value(table, "full", "survival_chance", kind)["estimate"] < 1


def test_what_is_drawn_together_is_as_if_drawn_alone(study: Study) -> None:
    bench = Bench(study, SMALL)
    (own,) = bench.looking.look(study.model("rtn-2bit-g16"), (1.0,))
    rows = bench._table(own).set_index(["measure", "part"])
    assert len(rows) == len(own.values) + 1
    for measure in ("norm", "spread"):
        values, full = (seen.values[measure, INSIDE, NONE] for seen in (own, bench.full))
        ratio = stats.bootstrap(values, full, statistic=module.ratio_of_means)
        wanted = [*stats.bootstrap_mean(values), *ratio, len(values)]
        row = rows.loc[(measure, INSIDE), ["estimate", "low", "high", "ratio", "ratio_low", "ratio_high", "n"]]
        assert row.to_numpy(dtype=float).ravel() == pytest.approx(wanted)


def test_eight_bits_are_near_and_two_are_far(table: pd.DataFrame) -> None:
    for twin in (PLAIN, MATCHED):
        eight, two = (value(table, f"rtn-{bits}bit-g16", "direction", INSIDE, twin=twin)["estimate"] for bits in (8, 2))
        assert eight > 0.99 > two
        eight, two = (value(table, f"rtn-{bits}bit-g16", "survival", NEAR, twin=twin)["estimate"] for bits in (8, 2))
        assert eight > 0.9 > two
    assert value(table, "rtn-8bit-g16", "tau", twin=MATCHED)["estimate"] == pytest.approx(1, abs=0.05)
    assert value(table, "rtn-2bit-g16", "tau", twin=PLAIN)["estimate"] == 1


def test_rows_say_what_the_model_does(study: Study, table: pd.DataFrame) -> None:
    inputs = Bench(study, SMALL).inputs
    base, own = study.base, models.load(study.variant("rtn-2bit-g16").path)
    twin = value(table, "rtn-2bit-g16", "tau", twin=MATCHED)["estimate"]
    theirs, mine = (slopes.input_gradients(m.hf, inputs.ids, (tau,))[0] for m, tau in ((base, 1.0), (own, twin)))
    cosines = slopes.averaged(slopes.cosines(mine, theirs), inputs.inside).numpy()
    found = value(table, "rtn-2bit-g16", "direction", INSIDE, twin=MATCHED)
    assert found["estimate"] == pytest.approx(cosines.mean(), abs=1e-4) and found["n"] == len(cosines)
    want = stats.bootstrap_mean(cosines)
    assert (found["low"], found["high"]) == pytest.approx((want.low, want.high), abs=1e-3)
    norms = [
        slopes.averaged(slopes.scaled_norms(gradient, slopes.embedded(m.hf, inputs.ids)), inputs.inside).mean()
        for m, gradient in ((own, mine), (base, theirs))
    ]
    found = value(table, "rtn-2bit-g16", "norm", INSIDE, twin=MATCHED)
    assert found["ratio"] == pytest.approx(float(norms[0] / norms[1]), rel=1e-3)
    e = slopes.embedded(base.hf, inputs.ids).norm(dim=-1)[inputs.inside].mean()
    few = inputs.ids[:4], inputs.inside[:4]
    slope = slopes.finite_slopes(own.hf, *few, (RADIUS,), float(e), 1, (twin,))[0, 0]
    draws = value(table, "rtn-2bit-g16", "slope", at=RADIUS, twin=MATCHED)["estimate"]
    assert draws == pytest.approx(float(slope.mean()), rel=0.3)
    assert set(table[table["measure"] == "slope"]["at"]) == set(RADII)


def test_other_checkpoints_stand_beside(study: Study, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ["estimate", "low", "ratio"]
    own, other = (
        table[table["variant"] == name][columns].reset_index(drop=True) for name in ("rtn-2bit-g16", "another")
    )
    pd.testing.assert_frame_equal(own, other)
    (keys,) = {
        tuple(row) for row in table.loc[table["variant"] == "another", ["method", "bits", "group_size"]].to_numpy()
    }
    assert keys == ("another", 2, 16)

    def never(self: Bench, model: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Bench, "rows", never)
    pd.testing.assert_frame_equal(
        smoothness.measure(study, SMALL, {"another": study.variant("rtn-2bit-g16").path}), table
    )


def test_without_running_text_the_calibration_text_is_read(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "running_text", lambda study: [])
    wanted = Inputs.of(study.base, study.calibration_text, SMALL)
    assert Bench(study, SMALL).inputs.ids.equal(wanted.ids)
    with pytest.raises(InputError, match="give a text file as calibration, or as text"):
        Inputs.of(study.base, [], SMALL)


def test_a_cell_is_the_same_numbers(study: Study, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    found = edition.measured(study, [Cell("tiny", "rtn", 2.0, 16)], SMALL).iloc[0]
    assert found["cell"] == "rtn-2bit-g16"
    for name, (measure, part, at, column) in {
        "tau": ("tau", "", None, "estimate"), "norm_ratio": ("norm", INSIDE, None, "ratio"),
        "direction": ("direction", INSIDE, None, "estimate"), "slope_ratio": ("slope", "", RADIUS, "ratio"),
        "survival": ("survival", NEAR, None, "estimate"), "own_shared": ("own_shared", NEAR, None, "estimate"),
        "union_ratio": ("union", NEAR, None, "ratio"), "shift_ratio": ("shift", NEAR, None, "ratio"),
        "tree_ratio": ("nodes", "", 2.0, "ratio"),
    }.items():  # fmt: skip
        there = value(table, "rtn-2bit-g16", measure, part, at, MATCHED)[column]
        assert found[name] == pytest.approx(there, rel=1e-3, nan_ok=True), name

    def never(*given: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(edition.boundary, "made", never)
    edition.measured(study, [Cell("tiny", "rtn", 2.0, 16)], SMALL)
    with pytest.raises(AssertionError, match="made again"):
        edition.measured(study, [Cell("tiny", "rtn", 3.0, 16)], SMALL)


def test_charts_say_what_they_show(table: pd.DataFrame) -> None:
    rows = charts.chosen(table, "survival", NEAR, MATCHED, ratio=False)
    assert len(rows) == 2 and set(rows["method"]) == {"rtn"}
    two = value(table, "rtn-2bit-g16", "survival", NEAR, twin=MATCHED)["estimate"]
    assert f"at 2 {two:.2f}" in charts.by_bits(rows, "t", "a").to_dict()["description"]
    ratio = value(table, "rtn-2bit-g16", "slope", at=RADIUS, twin=MATCHED)["ratio"]
    assert charts.chosen(table, "slope", "", MATCHED, RADIUS).query("bits == 2")["estimate"].item() == ratio
    assert "full precision dashed: 8 bits" in charts.slopes(table, "rtn", PLAIN).to_dict()["description"]
    first = value(table, "rtn-2bit-g16", "jacobian", INSIDE, 0.0)["ratio"]
    assert f"2 bits: {first:.2f} from the first" in charts.by_depth(table, "rtn", INSIDE).to_dict()["description"]
    assert "rtn at 1" in charts.tree(table, 2, PLAIN).to_dict()["description"]
