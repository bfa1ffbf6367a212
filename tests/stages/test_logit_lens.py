"""The lens ends in the model's own output, and its control knows nothing of the answer."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from quantcliff import models
from quantcliff.charts import logit_lens as charts
from quantcliff.probes import Probes
from quantcliff.stages import logit_lens
from quantcliff.study import Study
from quantcliff.tracing import Runner, score


def prompts(n: int = 12) -> Probes:
    rng = np.random.default_rng(0)
    return Probes(
        input_ids=[rng.integers(1, 320, rng.integers(3, 9)).tolist() for _ in range(n)],
        answers=[rng.choice(320, size=rng.integers(1, 3), replace=False).tolist() for _ in range(n)],
        subject=np.full((n, 2), -1),
        table=pd.DataFrame({"relation": ["a", "b", "c"] * (n // 3), "prompt": [str(row) for row in range(n)]}),
        dropped=pd.DataFrame(),
    )


@pytest.fixture(params=["tiny_llama", "tiny_gemma", "tiny_neox"])
def folder(request):
    return request.getfixturevalue(request.param)


def test_last_layer_equals_the_models_own_output(folder):
    runner, probes = Runner(models.load(folder)), prompts()
    found = logit_lens.read(runner, probes, probes.answers, size=5)
    own = score(runner, probes)
    np.testing.assert_allclose(found["probability"][:, -1], own["probability"], atol=1e-5)
    np.testing.assert_allclose(found["entropy"][:, -1], own["entropy"], atol=1e-4)
    np.testing.assert_array_equal(found["rank"][:, -1], own["rank"])
    np.testing.assert_allclose(found["control"], found["probability"], rtol=1e-12)


def test_lower_layers_equal_a_hand_written_lens(tiny_gemma):
    plain = AutoModelForCausalLM.from_pretrained(tiny_gemma, dtype=torch.float32, attn_implementation="eager")
    probes = prompts()
    found = logit_lens.read(Runner(models.load(tiny_gemma)), probes, probes.answers)
    for index in (0, 5):
        with torch.no_grad():
            states = plain(torch.tensor([probes.input_ids[index]]), output_hidden_states=True).hidden_states
            for layer in range(2):
                logits = plain.lm_head(plain.model.norm(states[layer + 1][0, -1]))
                cap = plain.config.final_logit_softcapping
                chances = torch.softmax(cap * torch.tanh(logits / cap), -1)
                best = max(chances[token].item() for token in probes.answers[index])
                assert found["probability"][index, layer] == pytest.approx(best, abs=1e-5)
                entropy = -(chances * chances.log()).sum().item()
                assert found["entropy"][index, layer] == pytest.approx(entropy, abs=1e-4)


def test_control_answers_come_from_the_same_relation_and_are_wrong():
    probes = prompts()
    shuffled = logit_lens.shuffled_answers(probes, seed=3)
    relations = probes.table["relation"]
    for index, answer in enumerate(shuffled):
        assert not set(answer) & set(probes.answers[index])
        donors = [row for row in range(len(probes)) if probes.answers[row] == answer]
        assert relations[index] in set(relations[donors])
    assert shuffled == logit_lens.shuffled_answers(probes, seed=3)
    assert shuffled != logit_lens.shuffled_answers(probes, seed=4)


def test_a_relation_with_one_answer_has_no_control(tiny_llama):
    probes = prompts(3)
    assert logit_lens.shuffled_answers(probes) == [[], [], []]
    found = logit_lens.read(Runner(models.load(tiny_llama)), probes, [[], [], []])
    assert np.isnan(found["control"]).all()
    table = logit_lens.summary(found)
    assert set(table["measure"]) == {"probability", "entropy", "rank_median", "first"}


def test_summary_of_known_values():
    values = {
        "probability": np.array([[0.0, 0.8], [0.2, 1.0], [0.1, 0.6]]),
        "rank": np.array([[9.0, 1.0], [3.0, 1.0], [5.0, 2.0]]),
        "entropy": np.array([[3.0, 0.5], [3.0, 0.1], [3.0, 0.3]]),
        "control": np.array([[0.0, 0.1], [0.1, 0.1], [np.nan, np.nan]]),
    }
    table = logit_lens.summary(values).set_index(["measure", "layer"])
    expected = {
        ("probability", 0): 0.1, ("probability", 1): 0.8, ("rank_median", 0): 5, ("rank_median", 1): 1,
        ("first", 0): 0, ("first", 1): 2 / 3, ("entropy", 0): 3, ("entropy", 1): 0.3, ("control", 0): 0.05,
        ("control", 1): 0.1, ("signal", 0): 0.05, ("signal", 1): 0.8,
    }  # fmt: skip
    assert table["estimate"].to_dict() == pytest.approx(expected)
    assert table["n"]["signal", 0] == 2
    assert table["n"]["first", 0] == 3
    bounded = table.drop(index="rank_median", level=0)  # three ranks bound no median
    assert table.loc["rank_median", ["low", "high"]].isna().all(axis=None)
    assert (bounded["low"] <= bounded["estimate"] + 1e-9).all()
    assert (bounded["estimate"] <= bounded["high"] + 1e-9).all()


def test_no_prompt_no_rows():
    empty = {name: np.zeros((0, 3)) for name in logit_lens.VALUES}
    assert logit_lens.summary(empty).empty


def rows(variant: str, values: list[float]) -> pd.DataFrame:
    layers = range(len(values))
    return pd.DataFrame(
        {"variant": variant, "layer": layers, "estimate": values, "measure": "probability", "group": "known"}
    )


def test_signal_layer_is_the_first_from_which_the_signal_stays():
    table = pd.concat(
        [rows("full", [0.0, 0.6, 0.1, 0.7, 1.0]), rows("a", [0.6, 0.6, 0.7, 0.9, 0.9]), rows("b", [0.5, 0, 0, 0, 0.3])]
    )
    assert logit_lens.signal_layer(table, "full") == 3
    assert logit_lens.signal_layer(table, "a") == 0
    assert logit_lens.signal_layer(table, "b") is None
    assert logit_lens.signal_layer(table, "b", level=0.2) == 4


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(method="rtn", bits="2", n_facts=60, run=tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def table(study) -> pd.DataFrame:
    return logit_lens.measure(study)


def test_the_top_of_the_table_is_what_the_models_answer(study, table):
    top = table[(table["layer"] == study.runner("full").n_layers - 1) & (table["group"] == "known")]
    known = study.groups["known"]
    for label in study.labels:
        own = study.scores(label)[known]
        found = top[top["variant"] == label].set_index("measure")["estimate"]
        assert found["first"] == pytest.approx((own["rank"] == 1).mean())
        assert found["probability"] == pytest.approx(own["probability"].mean(), abs=1e-5)
    assert top[(top["variant"] == "full") & (top["measure"] == "first")]["estimate"].item() == 1


def test_full_precision_from_the_trace_equals_a_fresh_run(study, table):
    control = logit_lens.shuffled_answers(study.known, study.seed)
    fresh = logit_lens.read(study.runner("full"), study.known, control)
    for name, values in logit_lens.read_recorded(study, "full", study.known, control, size=7).items():
        np.testing.assert_allclose(values, fresh[name], atol=1e-4)
    signal = np.nanmean(fresh["probability"] - fresh["control"], axis=0)
    rows = table[(table["variant"] == "full") & (table["group"] == "known") & (table["measure"] == "signal")]
    np.testing.assert_allclose(rows["estimate"], signal, atol=1e-4)


def test_groups_divide_the_known_facts(table):
    first = table[(table["layer"] == 0) & (table["measure"] == "first") & (table["variant"] == "full")].set_index(
        "group"
    )["n"]
    assert first["known"] == first.get("robust", 0) + first.get("failure", 0)


@pytest.mark.parametrize("chart", [charts.probability, charts.rank, charts.entropy])
def test_charts_draw_the_table_and_can_be_read_aloud(table, chart):
    made = chart(table, "rtn").to_dict()
    assert made["title"]
    assert len(made["description"]) > 60
    assert any(len(rows) for rows in made["datasets"].values())
