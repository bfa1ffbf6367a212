"""Bits of knowledge are counted as they are defined, for every model of a folder and every width."""

import csv
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from quantcliff import cli, models
from quantcliff.atlas import load_facts, prompt
from quantcliff.errors import InputError
from quantcliff.stages import boundary
from quantcliff.stages.boundary.density import Asked, found_in, known_bits, object_costs
from quantcliff.stages.smollm2 import Shipped

MODULE = sys.modules["quantcliff.stages.boundary.density"]


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    for name, n in (("few", 30), ("many", 60)):
        home = tmp_path / "trained" / name
        shutil.copytree(tiny_llama, home / "model")
        with (home / "facts.csv").open("w", encoding="utf-8", newline="") as handle:
            rows = csv.writer(handle)
            rows.writerow(["relation", "subject", "object"])
            some = [fact for fact in load_facts() if fact.relation == "P30"][:n]
            rows.writerows((fact.relation, fact.subject, fact.object) for fact in some)
    return tmp_path / "trained"


def test_a_fact_is_worth_what_it_is_defined_to_be() -> None:
    cost, possible = np.array([0.0, 3.0, 9.0]), np.array([2.0, 5.0, 5.0])
    assert known_bits(cost, possible).tolist() == [2, 2, 0]


def test_objects_cost_their_tokens(tiny_llama: Path) -> None:
    model, facts = models.load(tiny_llama), load_facts()[:40]
    asked = Asked.of(facts, facts, model.tokenizer)
    cost, first = object_costs(model, asked)
    assert len(cost) == len(asked.ids) == 40
    for index in (0, 7, 23):
        fact = facts[index]
        before = model.tokenizer(prompt(fact)).input_ids
        whole = model.tokenizer(f"{prompt(fact)} {fact.object}").input_ids
        logits = model.hf(torch.tensor([whole])).logits[0].double()
        log = torch.log_softmax(logits, -1)
        total = sum(float(log[place - 1, whole[place]]) for place in range(len(before), len(whole)))
        assert cost[index] == pytest.approx(-total / math.log(2), rel=1e-4)
        assert first[index] == float(logits[len(before) - 1].argmax() == whole[len(before)])
        same = [other for other in facts if other.relation == fact.relation]
        assert asked.n_objects[index] == len({other.object for other in same})
        assert asked.frequency[index] == sum(other.object == fact.object for other in same) / len(same)


def knowing(model: models.Model, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """As if the random model knew a good part of what it is asked."""
    cost, _ = object_costs(model, asked)
    return cost / 200, (cost < np.median(cost)).astype(float)


def test_every_model_at_every_width(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "WIDTHS", (8, 2))
    monkeypatch.setattr(MODULE, "object_costs", knowing)
    run = tmp_path / "run"
    found = boundary.density(folder, run, n_facts=20)
    assert len(found) == 2 * (1 + 2 * 2 * 2) and found["model"].unique().tolist() == ["few", "many"]
    full = found[found["method"] == "full"].set_index("model")
    model = models.load(folder / "few" / "model")
    assert full["facts"].tolist() == [30, 60] and (full["parameters"] == model.hf.num_parameters()).all()
    assert (full["n"] == 20).all() and (found["density_low"] <= found["density"]).all()
    facts = load_facts(folder / "few" / "facts.csv")
    drawn = np.sort(np.random.default_rng(MODULE.SEED).permutation(30)[:20])
    asked = Asked.of(facts, [facts[index] for index in drawn], model.tokenizer)
    cost, first = knowing(model, asked)
    worth = np.maximum(0, np.log2(asked.n_objects) - cost).mean() * 30 / model.hf.num_parameters()
    assert full.loc["few", "density"] == pytest.approx(worth) and worth > 0
    assert full.loc["few", "accuracy"] == first.mean() and full.loc["few", "kept"] == 1
    above = np.maximum(0, -np.log2(asked.frequency) - cost).mean() * 30 / model.hf.num_parameters()
    assert full.loc["few", "above_frequency"] == pytest.approx(above) and above != worth
    wide = found[(found["model"] == "few") & (found["bits"] == 8) & (found["method"] == "rtn")]
    assert wide["density"].to_numpy() == pytest.approx(worth, rel=0.2)

    def never(*given: object) -> pd.DataFrame:
        raise AssertionError("measured again")

    monkeypatch.setattr(MODULE, "_model", never)
    pd.testing.assert_frame_equal(boundary.density(folder, run, n_facts=20), found)
    with pytest.raises(AssertionError, match="measured again"):
        boundary.density(folder, run, n_facts=21)


def test_a_folder_that_holds_no_models_is_refused(folder: Path, tmp_path: Path) -> None:
    assert list(found_in(folder)) == ["few", "many"]
    with pytest.raises(InputError, match="holds no models"):
        found_in(tmp_path / "run")
    (folder / "many" / "facts.csv").write_text("relation,subject,object\nP0,Rome,Italy\n", encoding="utf-8")
    with pytest.raises(InputError, match="facts of relation P0, for which there are no sentences"):
        boundary.density(folder, tmp_path / "run", n_facts=2)
    (folder / "few" / "facts.csv").unlink()
    with pytest.raises(InputError, match=r"few has no facts\.csv"):
        boundary.density(folder, tmp_path / "run")


def test_the_command_ships_the_table(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "WIDTHS", (4,))
    monkeypatch.setattr(MODULE, "METHODS", ("rtn",))
    monkeypatch.setattr(boundary, "TRAINED", tmp_path / "shipped")
    asked = ["atlas", "density", str(folder), str(tmp_path / "run"), "--n-facts", "5", "--device", "cpu"]
    result = CliRunner().invoke(cli.app, asked)
    assert result.exit_code == 0, result.output
    shipped = Shipped(tmp_path / "shipped")
    assert shipped.made["command"] == "quantcliff atlas density MODELS RUN" and len(shipped.table("density")) == 6
