"""Silencing a block is what plain hooks do; dependence and likeness are right where they are known by construction."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import random_probes
from transformers import AutoModelForCausalLM

from quantcliff import models
from quantcliff.charts import patching as charts
from quantcliff.probes import Probes
from quantcliff.stages.patching import necessity
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner


@pytest.fixture(scope="module")
def asked() -> Probes:
    probes = random_probes(9)
    subject = np.array([[1, 1 + row % 2] for row in range(9)])
    subject[4] = -1
    return Probes(probes.input_ids, probes.answers, subject, probes.table, probes.dropped)


WRONG = np.arange(11, 20)


def plain(folder: Path, ids: list[int], right: int, wrong: int, layer: int | None = None, token: int = 0) -> float:
    """The margin by transformers alone, the block's two outputs set to zero at one token."""
    hf, handles = AutoModelForCausalLM.from_pretrained(folder).eval(), []

    def zero(_module: object, _given: object, out: object) -> object:
        tensor = out[0] if isinstance(out, tuple) else out
        tensor = tensor.clone()
        tensor[:, token] = 0
        return (tensor, *out[1:]) if isinstance(out, tuple) else tensor

    if layer is not None:
        block = hf.model.layers[layer]
        handles = [part.register_forward_hook(zero) for part in (block.self_attn, block.mlp)]
    with torch.no_grad():
        logits = hf(torch.tensor([ids])).logits[0, -1].double()
    for handle in handles:
        handle.remove()
    return float(logits[right] - logits[wrong])


def test_margins_are_those_of_plain_hooks(tiny_llama: Path, asked: Probes) -> None:
    found = necessity.margins(Runner(models.load(tiny_llama)), asked, WRONG, size=4)
    assert found.shape == (9, 1 + 2 * 3)
    for row, (ids, answers, wrong) in enumerate(zip(asked.input_ids, asked.answers, WRONG, strict=True)):
        assert found[row, 0] == pytest.approx(plain(tiny_llama, ids, answers[0], wrong), abs=1e-4)
        for place, token in enumerate((int(asked.subject[row, 1]), len(ids) - 1)):
            for layer in range(3):
                value = found[row, 1 + 3 * place + layer]
                if token < 0:
                    assert np.isnan(value)
                else:
                    assert value == pytest.approx(plain(tiny_llama, ids, answers[0], wrong, layer, token), abs=1e-4)


def test_the_last_block_matters_only_where_the_answer_is_read(tiny_gemma: Path, asked: Probes) -> None:
    found = necessity.margins(Runner(models.load(tiny_gemma)), asked.select([0, 1, 2]), WRONG[:3])
    np.testing.assert_allclose(found[:, 3], found[:, 0], atol=1e-5)
    assert (np.abs(found[:, 6] - found[:, 0]) > 1e-4).all()


def test_likeness_of_profiles_by_hand() -> None:
    draw = np.random.default_rng(0)
    profile = draw.normal(size=8)
    full = profile + draw.normal(scale=0.1, size=(40, 8))
    assert necessity.likeness(3 * full + 1, full).estimate == pytest.approx(1)
    assert necessity.likeness(-full, full).estimate == pytest.approx(-1)
    other = draw.normal(size=8) + draw.normal(scale=0.1, size=(40, 8))
    by_hand = np.corrcoef(other.mean(0), full.mean(0))[0, 1]
    found = necessity.likeness(other, full)
    assert found.estimate == pytest.approx(by_hand) and found.low < by_hand < found.high


def test_the_interval_of_likeness_is_that_of_resampled_prompts() -> None:
    draw = np.random.default_rng(3)
    own, full = draw.normal(size=(30, 6)) + np.arange(6), draw.normal(size=(30, 6)) + np.arange(6) ** 1.5
    found, again = necessity.likeness(own, full, resamples=4000), []
    for _ in range(4000):
        chosen = draw.integers(0, 30, 30)
        again.append(np.corrcoef(own[chosen].mean(0), full[chosen].mean(0))[0, 1])
    assert (found.low, found.high) == pytest.approx(np.percentile(again, [2.5, 97.5]), abs=0.01)
    flat = necessity.likeness(np.ones((5, 4)), full[:5, :4])
    assert np.isnan(flat.estimate) and np.isnan(flat.low)


def test_dependence_is_what_the_margin_loses() -> None:
    own = np.column_stack([np.full(6, 5.0), np.full(6, 4.0), np.full(6, 7.0), np.full(6, 5.0), np.arange(6.0)])
    rows = necessity.table_of(own, own)
    dependence = rows[rows["measure"] == "dependence"].set_index(["positions", "layer"])["estimate"]
    assert dependence["last_subject", 0] == 1 and dependence["last_subject", 1] == -2
    assert dependence["last", 0] == 0 and dependence["last", 1] == pytest.approx(2.5)
    assert rows.set_index("measure")["estimate"]["margin"] == 5
    assert rows.loc[rows["measure"] == "likeness", "estimate"].item() == pytest.approx(1)


def test_the_ceiling_is_the_likeness_of_two_halves() -> None:
    draw = np.random.default_rng(1)
    own = np.column_stack([np.zeros(60), draw.normal(size=10) + draw.normal(size=(60, 10))])
    ceiling = necessity.table_of(own, None).set_index("measure").loc["likeness"]
    assert 0.5 < ceiling["estimate"] < 1
    noise = np.column_stack([np.zeros(60), draw.normal(size=(60, 10))])
    assert abs(necessity.table_of(noise, None).set_index("measure").loc["likeness", "estimate"]) < 0.8


def test_the_table_of_a_study(tiny_llama: Path, tmp_path: Path) -> None:
    lines = []
    for number in range(12):
        lines.append({"prompt": f"Place {number} x", "subject": f"Place {number}", "object": "Rome", "relation": "r"})
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    study = Study(tiny_llama, method="rtn", bits="8,2", group_size=16, facts=tmp_path / "facts.jsonl", run=tmp_path)
    probes = random_probes(10)
    table = probes.table.assign(relation="r")
    study.known = Probes(probes.input_ids, probes.answers, np.tile([1, 1], (10, 1)), table, pd.DataFrame())
    found = necessity.measure(study, n_prompts=8)
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "patching_necessity.parquet"))
    assert found["variant"].unique().tolist() == [FULL, "rtn-8bit-g16", "rtn-2bit-g16"]
    alike = found[found["measure"] == "likeness"].set_index("variant")["estimate"]
    assert alike["rtn-8bit-g16"] > 0.99 > alike["rtn-2bit-g16"]
    assert len(found[found["measure"] == "dependence"]) == 3 * 2 * 3
    spec = charts.necessity(found, "last_subject").to_dict()
    assert spec["title"][0] == "One layer silenced at the last subject token" and "8 bits" in spec["description"]
    study.known = Probes(probes.input_ids, probes.answers, np.tile([-1, -1], (10, 1)), table, pd.DataFrame())
    study.__dict__.pop("inside", None)
    assert necessity.measure(study, n_prompts=7).empty
