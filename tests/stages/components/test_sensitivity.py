"""Sensitivity: a part quantized alone, against models whose damage is known."""

import copy
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from families import wrapped

from quantcliff import models, tables
from quantcliff.charts import components as charts
from quantcliff.models import Model, linears
from quantcliff.probes import Probes
from quantcliff.stages.components import sensitivity as sensitivity
from quantcliff.study import Study
from quantcliff.tracing import Runner, score


@pytest.fixture(scope="module")
def probes(tiny_llama) -> Probes:
    """Twelve random prompts whose right answer is what the model says."""
    draw = np.random.default_rng(0)
    ids = [[0, *map(int, draw.integers(1, 300, size=3 + i % 4))] for i in range(12)]
    table = pd.DataFrame(
        {"fact": range(12), "relation": "r", "subject": "s", "object": "o", "prompt": map(str, range(12))}
    )
    found = Probes(ids, [[1]] * 12, np.tile(np.array([1, 2]), (12, 1)), table.assign(band=0), table[:0])
    first = score(Runner(models.load(tiny_llama)), found)["top1"]
    return replace(found, answers=[[int(token)] for token in first])


def damaged(model: Model, where: str, noise: float = 1.0) -> Model:
    """The same model with noise on the weights whose name holds `where`."""
    hf, draw = copy.deepcopy(model.hf), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            if where in name:
                weight.add_(noise * weight.abs().mean() * torch.randn(weight.shape, generator=draw))
    return replace(model, hf=hf, name="damaged", digest=f"damaged {where}")


def test_an_equal_model_costs_nothing(tiny_llama, probes):
    table = sensitivity.cost(models.load(tiny_llama), models.load(tiny_llama), probes)
    assert (table["kept"] == 1).all()
    for column in ("loss", "loss_low", "loss_high", "loss_per_share"):
        assert (table[column] == 0).all()
    names = ["all", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "0", "1", "2"]
    assert table["name"].tolist() == names


def test_only_the_damaged_parts_cost(tiny_llama, probes):
    base = models.load(tiny_llama)
    broken = damaged(base, "layers.1.mlp.down_proj")
    table = sensitivity.cost(base, broken, probes).set_index(["part", "name"])
    guilty = [("all", "all"), ("module", "down_proj"), ("layer", "1")]
    before = score(Runner(models.load(tiny_llama)), probes)
    after = score(Runner(broken), probes)
    for part in guilty:
        assert table.loc[part, "loss"] == pytest.approx((before["probability"] - after["probability"]).mean())
        assert table.loc[part, "kept"] == (after["rank"] == 1).mean() < 1
        assert table.loc[part, "loss_low"] < table.loc[part, "loss"] < table.loc[part, "loss_high"]
    innocent = table.drop(index=guilty)
    assert (innocent["kept"] == 1).all()
    assert (innocent["loss"] == 0).all()


def test_shares_are_of_the_quantized_weights(tiny_llama, probes):
    base = models.load(tiny_llama)
    table = sensitivity.cost(base, damaged(base, "down_proj"), probes)
    per_part = table.groupby("part")["share"].sum()
    np.testing.assert_allclose(per_part, 1)
    total = sum(rows * columns for rows, columns in linears(base.hf.config).values())
    down = table.set_index("name").loc["down_proj"]
    assert down["share"] == pytest.approx(3 * 32 * 64 / total)
    assert down["loss_per_share"] == pytest.approx(down["loss"] / down["share"])
    assert down["loss_per_share_high"] == pytest.approx(down["loss_high"] / down["share"])


def test_modules_cannot_be_exchanged_where_norms_differ(tiny_llama):
    base = models.load(tiny_llama)
    parts = sensitivity.parts_of(base, damaged(base, "layers.1.input_layernorm"))
    assert {part for part, _ in parts} == {"all", "layer"}
    assert "model.layers.1.input_layernorm.weight" in parts["layer", "1"]
    assert all(".1." in name for name in parts["layer", "1"])


def test_experts_are_modules_and_count_among_the_weights():
    base = wrapped("mixtral")
    parts = sensitivity.parts_of(base, damaged(base, "down_proj"))
    modules = {name for part, name in parts if part == "module"}
    assert modules == {"q_proj", "k_proj", "v_proj", "o_proj", "experts.gate_up_proj", "experts.down_proj"}
    sizes = {name: weight.numel() for name, weight in base.hf.named_parameters()}
    every = {name for (part, _), names in parts.items() if part == "module" for name in names}
    assert sum(size for _, size in sensitivity._matrices(base).values()) == sum(sizes[name] for name in every)


def test_parts_of_a_model_without_a_gate(tiny_neox):
    base = models.load(tiny_neox)
    parts = sensitivity.parts_of(base, base)
    modules = [name for part, name in parts if part == "module"]
    assert modules == ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
    assert all(len(parts["module", name]) == 3 for name in modules)


def test_measure_of_a_study_in_the_units_of_the_base(tiny_llama, tmp_path, probes):
    """AWQ rescales norms; what is left after undoing it is small at 8 bits, for each module alone too."""
    facts = tmp_path / "facts.jsonl"
    fact = {"relation": "r", "subject": "Rome", "object": "Italy", "prompt": "Rome lies in"}
    facts.write_text(json.dumps(fact) + "\n", encoding="utf-8")
    text = tmp_path / "text.txt"
    text.write_text("Rome is the capital of Italy.\nNobody knows the answer.\n", encoding="utf-8")
    study = Study(
        str(tiny_llama), method="awq", bits=8, group_size=32, facts=facts, run=tmp_path / "run", calibration=text
    )
    study.known = probes
    table = sensitivity.measure(study, n_prompts=8)
    assert tables.read(tmp_path / "run" / "components_sensitivity.parquet").equals(table)
    assert set(table["part"]) == {"all", "module", "layer"}
    assert set(table["n"]) == {8}
    assert table["loss"].abs().max() < 0.02


@pytest.mark.parametrize("part", ["module", "layer"])
def test_chart_shows_the_loss_as_it_is_and_per_weight(tiny_llama, probes, part):
    base = models.load(tiny_llama)
    table = sensitivity.cost(base, damaged(base, "layers.1.mlp.down_proj"), probes)
    rows = table.assign(variant="rtn-2bit", method="rtn", bits=2)
    spec = charts.parts(rows, part).to_dict()
    (data,) = spec["datasets"].values()
    worst = max(data, key=lambda row: row["loss"] if row["counted"] == "as it is" else 0)
    assert worst["name"] == {"module": "down_proj", "layer": "1"}[part]
    assert {row["counted"] for row in data} == {"as it is", "per weight"}
    assert len(data) == 2 * {"module": 7, "layer": 3}[part]
    assert worst["name"] in spec["description"]
