"""Experts: whom tokens visit, on mixtures whose output can be put together again from what was read."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from families import MIXTURES, wrapped

from quantcliff import tables
from quantcliff.charts import components as charts
from quantcliff.probes import Probes
from quantcliff.quantizers import Scheme, quantize
from quantcliff.stages.components import experts
from quantcliff.stages.components.experts import Visits
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, site


@pytest.fixture(scope="module")
def probes() -> Probes:
    """Nine prompts of different lengths."""
    draw = np.random.default_rng(1)
    ids = [[0, *map(int, draw.integers(1, 300, size=3 + i % 4))] for i in range(9)]
    table = pd.DataFrame(
        {"fact": range(9), "relation": "r", "subject": "s", "object": "o", "prompt": map(str, range(9))}
    )
    return Probes(ids, [[1]] * 9, np.tile(np.array([1, 2]), (9, 1)), table.assign(band=0), table[:0])


@pytest.mark.parametrize("name", MIXTURES)
def test_what_is_read_of_the_experts_makes_up_the_output_of_the_layer(name, probes):
    runner = Runner(wrapped(name))
    ids = torch.tensor([probes.input_ids[3]])
    module, given = experts.stacked(runner)[1], []
    module.register_forward_pre_hook(
        lambda module, args, kwargs: given.append([*args, *kwargs.values()][2]), with_kwargs=True
    )
    _, seen = runner.run(ids, record=[site("mlp_in", 1), site("mlp_out", 1)])
    weights = given[0].reshape(ids.shape[1], -1)[-1]
    found = experts.visits(runner, probes.select([3]))
    gates, posts = experts.work(module, seen[site("mlp_in", 1)][0, -1:], found.chosen[:, 1])
    down = module.down_proj[found.chosen[0, 1]]
    out = torch.einsum("sn,snd->sd" if module.is_transposed else "sn,sdn->sd", posts[0], down)
    if module.has_bias:
        out = out + module.down_proj_bias[found.chosen[0, 1]]
    torch.testing.assert_close((weights[:, None] * out).sum(0), seen[site("mlp_out", 1)][0, -1], atol=1e-5, rtol=1e-4)
    shut = posts.abs()[gates < -20]  # silu of a large negative gate is nearly nothing
    assert not len(shut) or shut.max() < 1e-3


@pytest.mark.parametrize("name", MIXTURES)
def test_prompt_by_prompt_as_in_a_batch(name, probes):
    runner = Runner(wrapped(name))
    whole = experts.visits(runner, probes)
    alone = [experts.visits(runner, probes.select([number])) for number in range(len(probes))]
    for kind in ("chosen", "open"):
        assert torch.equal(getattr(whole, kind), torch.cat([getattr(one, kind) for one in alone])), kind
    assert torch.equal(whole.visited, torch.stack([one.visited for one in alone]).any(0))


def test_a_model_beside_itself_visits_the_same_experts(probes):
    found = experts.visits(Runner(wrapped("mixtral")), probes)
    for measure, value in (("same_experts", 1), ("sign_flips", 0), ("jaccard", 1)):
        assert (experts.compare(found, found)[measure] == value).all()


def made(chosen, open_, top) -> Visits:
    parts = [torch.tensor(part)[None, None] for part in (chosen, open_, top)]
    return Visits((0,), *parts, visited=torch.ones(1, 5, dtype=torch.bool))


def test_experts_are_matched_by_number_and_not_by_place():
    full = made([4, 1], [[True, True, False, False], [True, False, True, False]], [[0, 1], [2, 3]])
    own = made([1, 3], [[True, False, False, False], [False, False, False, True]], [[3, 0], [0, 1]])
    found = experts.compare(full, own)
    assert found["same_experts"].item() == 0.5
    assert found["sign_flips"].item() == 0.25  # expert 1: one gate of four
    assert found["jaccard"].item() == pytest.approx(1 / 3)  # expert 1: {2, 3} and {3, 0}
    nobody = experts.compare(full, replace(own, chosen=torch.tensor([[[0, 2]]])))
    assert nobody["same_experts"].item() == 0
    assert np.isnan(nobody["sign_flips"].item()) and np.isnan(nobody["jaccard"].item())


def test_the_table_has_a_row_for_each_layer_and_says_where_nothing_is():
    values = np.array([[1.0, np.nan], [0.5, np.nan], [0.0, np.nan]])
    found = experts.table_of({"jaccard": values}, {"jaccard": values[::-1] / 2}, (2, 5), {"jaccard": 0.1})
    assert found["layer"].tolist() == [2, 5]
    assert found["n"].tolist() == [3, 0]
    assert found.loc[0, ["estimate", "shuffled", "chance"]].tolist() == [0.5, 0.25, 0.1]
    assert found.loc[0, "low"] < 0.5 < found.loc[0, "high"]
    assert found.loc[1, ["estimate", "low", "high", "shuffled"]].isna().all()


def test_a_router_that_is_damaged_sends_tokens_elsewhere_on_clean_input_too(probes):
    base, other = wrapped("qwen3-moe"), wrapped("qwen3-moe")
    with torch.no_grad():
        gate = other.hf.model.layers[1].mlp.gate.weight
        gate.copy_(gate.roll(1, 0))
    full = experts.visits(Runner(base), probes)
    own = experts.visits(Runner(other), probes)
    assert torch.equal(full.chosen[:, 0], own.chosen[:, 0])
    assert torch.equal((full.chosen[:, 1] + 1) % 4, own.chosen[:, 1])


def test_a_model_without_experts_is_refused(probes):
    with pytest.raises(ValueError, match="no layer of experts"):
        experts.visits(Runner(wrapped("llama")), probes)


@pytest.fixture(scope="module")
def study(probes, tmp_path_factory) -> Study:
    """A mixture with a damaged router in its middle layer, beside itself as it was."""
    folder = tmp_path_factory.mktemp("experts")
    base, other = wrapped("mixtral"), wrapped("mixtral")
    with torch.no_grad():
        other.hf.model.layers[1].mlp.gate.weight.mul_(-1)
        other.hf.model.layers[2].mlp.experts.gate_up_proj.mul_(-1)
    for model, name in ((base, "base"), (other, "other")):
        model.hf.save_pretrained(folder / name)
        model.tokenizer.save_pretrained(folder / name)
    quantized = quantize(folder / "other", Scheme("rtn", 8, 16), (), folder / "cache")
    found = Study(str(folder / "base"), quantized=str(quantized), run=folder / "run")
    found.known = probes
    return found


def test_a_study_tells_the_router_from_the_experts(study):
    table = experts.measure(study, n_prompts=9)
    assert tables.read(study.run / "components_experts.parquet").equals(table)
    rows = table[table["variant"] != FULL].set_index(["condition", "measure", "layer"])["estimate"].sort_index()
    same, flips = rows["clean", "same_experts"], rows["clean", "sign_flips"]
    assert same[0] > 0.9 and same[1] == 0 and same[2] > 0.9  # two of four are chosen, and now the other two
    assert flips[0] < 0.05 and np.isnan(flips[1]) and flips[2] > 0.95
    assert rows["in_situ", "same_experts", 0] > 0.9
    assert (table.loc[table["variant"] == FULL, "estimate"].isin([0, 1])).all()
    whole = charts.layers(table, "same_experts").to_dict()
    assert "share of experts that both choose" in whole["description"]


def test_it_is_said_in_words(study):
    text = experts.said(experts.measure(study, n_prompts=9))
    assert "of the experts that full precision chooses are chosen by the quantized model too (by chance 50%)" in text
    assert "nan" not in text
