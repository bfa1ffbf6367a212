"""What heals and what tests are apart; every arm is measured on the model it made."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff import models, tables
from quantcliff.atlas import load_facts, prompt
from quantcliff.charts import healing as charts
from quantcliff.quantizers.healing import Recipe
from quantcliff.stages import components, healing, verdict
from quantcliff.stages.healing import AS_IT_IS, Arm, row
from quantcliff.stages.healing import trials as module
from quantcliff.stages.smollm2 import Shipped
from quantcliff.study import Study
from quantcliff.tracing import Runner, score

QUICK = Recipe(epochs=1, batch=8)


@pytest.fixture
def study(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(module, "documents", lambda sequences: TEXT * 40)
    monkeypatch.setattr(module, "running_text", lambda study: TEXT)
    found = OwnAnswers(tiny_llama, method="rtn", bits="2", group_size=16, n_facts=40, run=tmp_path / "run")
    monkeypatch.setattr(module, "atlas", SimpleNamespace(NAME=found.parameters.model))  # it stands for the embedded one
    return found


def test_the_halves_are_apart() -> None:
    subjects = {fact.subject for fact in load_facts()}
    share = np.mean([healing.heals(subject) for subject in subjects])
    assert 0.48 < share < 0.52
    text = healing.documents(64)
    assert len(text) == 256 and healing.documents(16) == text[:64]
    named = {subject for subject in subjects if len(subject) > 12 and any(subject in line for line in text)}
    never = {subject for subject in named if not healing.heals(subject)}
    longer = {one for one in never if not any(one in other and healing.heals(other) for other in subjects)}
    assert len(named) > 100 and not longer, "a held-out subject stands in the text"
    whole = " ".join(text)
    assert not any(prompt(fact) in whole for fact in load_facts()[:2000])


def test_more_text_of_a_models_own_begins_with_less(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 2 documents of 32 tokens, one for a sequence of 64."""
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path / "cache"))
    module = sys.modules["quantcliff.stages.healing.text"]
    monkeypatch.setattr(module, "BLOCK", 2)
    monkeypatch.setattr(module, "LENGTH", 32)
    one, three = (module.own_documents(tiny_llama, n) for n in (1, 3))
    assert len(one) == 2 and len(three) == 6 and three[:2] == one
    assert len(set(three)) == 6, "every block has a seed of its own"


def test_every_arm_is_measured_on_its_own_model(study: Study) -> None:
    tried = [AS_IT_IS, Arm("healed", 16, QUICK)]
    found = healing.measure(study, tried)
    assert found["arm"].unique().tolist() == ["as it is", "healed"]
    half = healing.healing_half(study.known)
    assert 0 < half.sum() < 40
    for arm in tried:
        folder = healing.checkpoint(study, "rtn-2bit-g16", arm)
        rank = score(Runner(models.load(folder)), study.known)["rank"].to_numpy()
        for part, here in {"all": half | True, "healing": half, "held-out": ~half}.items():
            kept = row(found, arm.name, arm.sequences, part, method="rtn")
            assert kept["n"] == here.sum() and kept["estimate"] == (rank[here] == 1).mean()
            assert kept["low"] <= kept["estimate"] <= kept["high"]
            lost = row(found, arm.name, arm.sequences, part, "lost_rank", "rtn")
            assert lost["estimate"] == np.median(rank[here & (rank > 1)])
        assert row(found, arm.name, arm.sequences, "text", "perplexity", "rtn")["estimate"] > 1
    assert healing.checkpoint(study, "rtn-2bit-g16", tried[1]) != healing.checkpoint(study, "rtn-2bit-g16", AS_IT_IS)
    pd.testing.assert_frame_equal(tables.read(study.run / "healing.parquet"), found)


def test_what_is_made_is_not_made_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = Arm("healed", 16, QUICK)
    folder = healing.checkpoint(study, "rtn-2bit-g16", arm)

    def never(*given: object, **named: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "heal", never)
    assert healing.checkpoint(study, "rtn-2bit-g16", arm) == folder
    with pytest.raises(AssertionError, match="trained again"):
        healing.checkpoint(study, "rtn-2bit-g16", Arm("healed", 16, Recipe(epochs=2, batch=8)))


def test_the_arms_of_an_edition() -> None:
    found = healing.arms((8, 16), 16, epochs=3)
    assert [(arm.name, arm.sequences) for arm in found] == [
        ("as it is", 0), ("healed", 8), ("healed", 16), ("scales only", 16), ("wrong target", 16), ("plain error", 16),
    ]  # fmt: skip
    assert all(arm.recipe.epochs == 3 for arm in found[1:])
    flags = [(arm.recipe.scales_only, arm.recipe.target, arm.recipe.plain) for arm in found[2:]]
    assert flags == [(False, "own", False), (True, "own", False), (False, "wrong", False), (False, "own", True)]


def test_what_is_shipped_is_read_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"estimate": [1.0]})
    tables.ship({"healing": table}, {"command": "c", "commit": "0" * 40, "date": "d"}, tmp_path)
    pd.testing.assert_frame_equal(Shipped(tmp_path).table("healing"), table)


def test_the_model_that_keeps_as_much(study: Study) -> None:
    others = OwnAnswers(study.parameters.model, method="rtn", bits="4,3,2", group_size=16, n_facts=40, run=study.run)
    shares = {label: float((others.known_scores(label)["rank"] == 1).mean()) for label in others.variants}
    for label, share in shares.items():
        assert shares[healing.equal([others], share).label] == share, label
    assert healing.equal([study, others], 0.0).bits == 2


def test_charts_say_what_they_show() -> None:
    rows = [
        {"arm": arm, "sequences": n, "tokens": 64 * n, "method": "gptq", "part": part, "measure": "kept",
         "estimate": 0.01 * n, "low": 0.0, "high": 0.5, "n": 9}
        for arm, n in (("as it is", 0), ("healed", 8), ("healed", 16), ("wrong target", 16))
        for part in ("all", "healing", "held-out")
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    words = charts.curve(table).to_dict()["description"]
    assert "512 tokens, never seen: 8%" in words and "1,024 tokens, in the text: 16%" in words
    words = charts.controls(table, 16).to_dict()["description"]
    assert "as it is, never seen: 0%" in words and "wrong target, in the text: 16%" in words and "8%" not in words
    layers = pd.DataFrame({"model": "a", "signal": "s", "layer": [0, 1], "value": [0.2, 0.4], "low": 0.1, "high": 1.0})
    assert "a 0.30 on average" in charts.by_depth(layers, "s").to_dict()["description"]


def test_a_healed_model_is_asked_the_verdict(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["quantcliff.stages.healing.beside"], "Study", OwnAnswers)
    folder = healing.checkpoint(study, "rtn-2bit-g16", Arm("healed", 16, QUICK))
    found = healing.beside(study, {"healed": folder}, n_prompts=12)
    assert found["model"].unique().tolist() == ["healed"]
    value = healing.signals(found, ["accuracy kept", healing.ATTENTION, "forms"]).set_index("signal")["healed"]
    rank = score(Runner(models.load(folder)), study.known)["rank"]
    assert value["accuracy kept"] == pytest.approx((rank == 1).mean())
    own = OwnAnswers(study.parameters.model, quantized=folder, n_facts=4000, run=study.run / "x")
    table = components.of_variant(own, next(iter(own.variants)), 12)
    here = table.query("measure == 'jsd' and condition == 'in_situ' and position == 'last'")["estimate"]
    assert value[healing.ATTENTION] == pytest.approx(here.mean()) and 0 < here.mean() < 1
    assert verdict.decide("healed", found[found["signal"] != healing.ATTENTION]).n_known == len(study.known)


@pytest.mark.skipif(not (healing.FOLDER / "made.json").is_file(), reason="no tables are shipped yet")
def test_every_shipped_table_is_whole() -> None:
    shipped = Shipped(healing.FOLDER)
    assert set(shipped.made["files"]) == {"healing", "beside", "further"} and len(shipped.made["commit"]) == 40
    assert sum(path.stat().st_size for path in healing.FOLDER.iterdir()) < 3e5, "small enough for git"
    table, beside = shipped.table("healing"), shipped.table("beside")
    arms = [("as it is", 0), *(("healed", n) for n in healing.CURVE)]
    for name, sequences in [*arms, ("scales only", healing.EQUAL), ("wrong target", healing.EQUAL)]:
        kept = [row(table, name, sequences, part) for part in ("all", "healing", "held-out")]
        whole = sum(one["estimate"] * one["n"] for one in kept[1:]) / sum(one["n"] for one in kept[1:])
        assert whole == pytest.approx(kept[0]["estimate"])
    kept = healing.signals(beside, ["accuracy kept"]).set_index("signal").loc["accuracy kept"]
    assert list(kept.index) == ["as it is", healing.SHOWN.name, healing.LIKE, *healing.ROUNDED]
    for name, method in (("healed", "gptq"), (healing.ROUNDED[1], "rtn")):
        assert kept[name] == pytest.approx(row(table, "healed", healing.EQUAL, "all", method=method)["estimate"])
