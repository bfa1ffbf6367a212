"""What a unit costs alone and what it would save; and the race of allocations that follows from it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff.quantizers import average_bits
from quantcliff.stages.mixture import ALONE, DUAL, Race, damage, edition, measure, readings, texts
from quantcliff.stages.mixture import sensitivity as module
from quantcliff.stages.mixture.outcomes import means
from quantcliff.stages.mixture.sensitivity import Subject
from quantcliff.stages.mixture.texts import Sizes

UNITS = ["0.q_proj", "2.down_proj"]


@pytest.fixture(scope="module")
def subject(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "running_text", lambda study: TEXT * 8)
        study = OwnAnswers(tiny_llama, method="rtn", bits="3", group_size=16, run=tmp_path_factory.mktemp("run"))
        yield Subject(study, Sizes(20, 20, 2, 20, 20, 2, 100), "rtn", options=(2, 3, 4))


@pytest.fixture(scope="module")
def table(subject: Subject) -> pd.DataFrame:
    return measure(subject)


def test_a_unit_costs_what_it_does_alone(subject: Subject) -> None:
    table = measure(subject, only=UNITS)
    tried = {(ALONE, 2), (ALONE, 3), (ALONE, 4), (DUAL, 2), (DUAL, 3)}
    assert set(zip(table["way"], table["bits"], strict=True)) == tried
    quantized = subject.uniform(2)
    name = subject.units["2.down_proj"][0]
    here = table[(table["bits"] == 2) & (table["unit"] == "2.down_proj")]
    for way, weights in ((ALONE, {name: quantized[name]}), (DUAL, {k: v for k, v in quantized.items() if k != name})):
        losses = subject.bench.read(weights)
        rows = here[(here["way"] == way) & (here["block"] >= 0)].sort_values("block")
        wanted = losses.by_block() - subject.full.by_block()
        assert rows["facts"].to_numpy() == pytest.approx(wanted["facts"].to_numpy(), abs=1e-5)
        assert rows["text"].to_numpy() == pytest.approx(wanted["text"].to_numpy(), abs=1e-5)
        whole = here[(here["way"] == way) & (here["block"] < 0)]
        assert whole["kept"].item() == losses.right.mean()
    alone = here[(here["way"] == ALONE) & (here["block"] < 0)].iloc[0]
    full, own = subject.full.margin, subject.bench.read({name: quantized[name]}).margin
    assert alone["kappa"] == pytest.approx((full @ own) / (full @ full), rel=1e-4)
    assert alone["layer"] == 2 and alone["weights"] == 32 * 64
    assert alone["source_snr"] == pytest.approx(alone["weight_snr"] + alone["strength"] - alone["alignment"], abs=1e-4)
    found = damage(table, UNITS, (2, 3, 4))
    assert found["facts"].shape == (2, 3)
    assert found["facts"][1, 0] == pytest.approx(here.query("way == 'alone' and block >= 0")["facts"].mean())


def test_what_is_on_the_shelf_is_not_measured_again(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measure(subject, (ALONE,), UNITS[:1])

    def never(*args: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "measured", never)
    pd.testing.assert_frame_equal(measure(subject, (ALONE,), UNITS[:1]), before)
    with pytest.raises(AssertionError, match="measured again"):
        measure(subject, (ALONE,), UNITS[1:])


def test_the_race_keeps_to_its_budget(subject: Subject, table: pd.DataFrame) -> None:
    race = Race(subject, table)
    config, budget = subject.study.base.hf.config, 4.0
    taken = {}
    for name in ("both", "task", "general", "dual", "fisher", "even", "first", "last", "random", "shuffled"):
        arm = race.arm(name, budget)
        assert average_bits(config, race.scheme(arm)) <= budget, name
        taken[name] = dict(arm.widths)
    first = [bits for _, bits in race.arm("first", budget).widths]
    assert first == sorted(first, reverse=True) or first[0] >= first[-1]
    assert sorted(taken["both"].values()) == sorted(taken["shuffled"].values()) and taken["both"] != taken["shuffled"]
    costs = {name: sum(race.alone["facts"][i, [2, 3, 4].index(bits)] for i, bits in enumerate(widths.values()))
             for name, widths in taken.items()}  # fmt: skip
    assert costs["task"] == pytest.approx(min(costs.values()))
    arm = race.arm("both", budget)
    row = race.row(arm)
    assert row["bits"] == pytest.approx(average_bits(config, race.scheme(arm)))
    assert row["predicted_facts"] == pytest.approx(costs["both"])
    exact, own = means(race.exact(race.tester)), means(race.outcome(arm, race.tester))
    assert row["facts"] == pytest.approx(own["facts"] - exact["facts"]) and row["kept"] == own["kept"]
    composed = Race(subject, table, composed=True).weights(arm)
    for name, weight in race.weights(arm).items():
        assert np.allclose(weight, composed[name], atol=1e-5), "plain rounding looks at nothing but the weights"


def test_arms_come_one_by_one(subject: Subject, table: pd.DataFrame) -> None:
    alone, whole = table[table["way"] == ALONE], Race(subject, table)
    assert {"dual", "fisher"} <= {arm.name for arm in whole.arms((), draws=0)}
    names = [arm.name for arm in Race(subject, alone, composed=True).arms((4.0,), draws=2)]
    assert names[-1] == "fisher" and "dual" not in names and names.count("random") == names.count("shuffled") == 2
    assert not any("composed" in name for name in names) and names.count("both") == 2
    assert any("composed" in arm.name for arm in whole.arms((), draws=1)), "beside what was quantized anew"


def test_fast_products_are_for_the_block_alone(subject: Subject) -> None:
    before = torch.get_float32_matmul_precision()

    def fail() -> None:
        with readings.products(readings.FAST):
            assert torch.get_float32_matmul_precision() == readings.FAST
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_float32_matmul_precision() == before
    fast = replace(subject, precision=readings.FAST)
    assert fast.content() != subject.content() and fast.bench.precision == readings.FAST
    one, other = fast.bench.read({}).total(), subject.full.total()
    for name in ("facts", "text"):
        assert one[name] == pytest.approx(other[name], abs=0.02)


def test_the_least_damage_is_allotted(subject: Subject, table: pd.DataFrame) -> None:
    scheme = edition.allotted(subject, 4.0, 1.0, table)
    wanted = dict(Race(subject, table).arm("task", 4.0).widths)
    plan = scheme.plan(subject.study.base.hf.config)
    assert {unit: plan[names[0]] for unit, names in subject.units.items()} == wanted
