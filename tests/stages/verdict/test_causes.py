"""The questions of cause against direct computation on tiny models, and their formulas on made-up numbers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantcliff import models, stats
from quantcliff.quantizers import Scheme, average_bits, quantize
from quantcliff.stages import components, verdict
from quantcliff.stages.verdict import Pair, causes, ladder
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, score

GROUP = 32


@pytest.fixture(scope="module")
def asked(pair: Pair) -> pd.DataFrame:
    return causes.ask(pair)


def whole(asked: pd.DataFrame, name: str) -> pd.Series:
    return asked[(asked["signal"] == name) & asked["layer"].isna()].iloc[0]


def by_layer(asked: pd.DataFrame, name: str) -> pd.Series:
    return asked[(asked["signal"] == name) & asked["layer"].notna()].set_index("layer")["value"]


def test_every_question_has_one_row_inside_its_interval(asked: pd.DataFrame):
    rows = asked[asked["layer"].isna()]
    assert rows["signal"].tolist() == [question.name for question in verdict.QUESTIONS]
    there = rows[rows["value"].notna()]
    assert len(there) >= 4
    assert ((there["low"] <= there["value"] + 1e-9) & (there["value"] <= there["high"] + 1e-9)).all()
    assert there["control"].notna().all()


scores = st.integers(2, 7).flatmap(
    lambda n: st.lists(st.lists(st.floats(-9, 0), min_size=n, max_size=n), min_size=n, max_size=n)
)


@given(scores, st.data())
def test_what_a_model_says_whatever_it_is_asked_does_not_count(score, data):
    """A liking for each answer, and how sure each prompt makes it, leave every pair as it was."""
    score, n = np.array(score), len(score)
    answers = [[fact] for fact in range(n)]
    liking, sureness = (np.array(data.draw(st.lists(st.floats(-5, 5), min_size=n, max_size=n))) for _ in range(2))
    double = np.add.outer(np.diag(score), np.diag(score)) - score - score.T
    if (np.abs(double[~np.eye(n, dtype=bool)]) < 1e-6).any():
        return
    np.testing.assert_allclose(
        causes.leaning(score + liking[None] + sureness[:, None], answers), causes.leaning(score, answers)
    )
    np.testing.assert_allclose(causes.leaning(np.tile(liking, (n, 1)), answers), 0.5)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_leaning_counts_the_right_pairs(seed):
    draw = np.random.default_rng(seed)
    score, answers = draw.normal(size=(5, 5)), [[0], [1], [2, 3], [3], [4]]
    found = causes.leaning(score, answers)
    for i in range(5):
        pairs = [j for j in range(5) if not set(answers[i]) & set(answers[j])]
        right = [score[i, i] - score[i, j] + score[j, j] - score[j, i] > 0 for j in pairs]
        assert found[i] == pytest.approx(np.mean(right))
    assert np.isnan(causes.leaning(score[:2, :2], [[7], [7]])).all()
    assert causes.leaning(np.array([[0.0, -9.0], [-9.0, 0.0]]), [[1], [2]]).tolist() == [1, 1]
    assert causes.leaning(np.array([[-9.0, 0.0], [0.0, -9.0]]), [[1], [2]]).tolist() == [0, 0]


def test_the_answer_forms_where_lost_prompts_lean_towards_their_own(pair: Pair, asked: pd.DataFrame):
    probes = pair.study.known.select(pair.lost)
    for label, number in ((pair.label, "value"), (FULL, "control")):
        runner, rows = Runner(pair.study.model(label)), []
        for ids in probes.input_ids:
            logits = runner.logits(torch.tensor([list(ids)]))[0, -1].double().log_softmax(-1)
            rows.append([float(logits[list(tokens)].max()) for tokens in probes.answers])
        leaning = causes.leaning(np.array(rows), probes.answers)
        assert whole(asked, "forms")[number] == pytest.approx(np.nanmean(leaning), abs=1e-3)
    assert whole(asked, "forms")["note"] == "of the lost answers"


def test_few_lost_answers_leave_all_known_ones_to_ask(pair: Pair):
    few = replace(pair)
    vars(few)["lost"] = np.arange(9)
    (row,) = causes.forms(few)
    assert row["note"] == "of all known facts: only 9 answers are lost"
    assert row["n"] == 40
    for question in (causes.responds, causes.repair):
        (row,) = question(few)
        assert np.isnan(row["value"])
        assert row["note"] == "only 9 answers are lost"


def clean_below(pair: Pair, layer: int) -> models.Model:
    layers = [f".layers.{below}." for below in range(layer + 1)]
    return models.splice(
        pair.study.model(pair.label), pair.study.base, lambda name: any(part in name for part in layers)
    )


def test_a_network_responds_with_all_but_the_last_layer_clean(pair: Pair, asked: pd.DataFrame):
    lost = pair.study.known.select(pair.lost)
    for layer in (0, 1):
        right = (score(Runner(clean_below(pair, layer)), lost)["rank"] == 1).mean()
        assert by_layer(asked, "responds")[layer] == pytest.approx(right)
    row = whole(asked, "responds")
    assert row["value"] == by_layer(asked, "responds")[1]
    other = pair.patched.query("donor == 'other' and layer == 1")
    assert row["control"] == pytest.approx((other["rank"] == 1).mean())
    assert row["n"] == len(pair.lost)


def test_the_control_of_responds_is_taken_where_its_value_is(pair: Pair):
    some, n = replace(pair), len(pair.lost)
    vars(some)["patched"] = pd.DataFrame([
        {"prompt": prompt, "donor": donor, "layer": layer, "rank": 1 if (donor, layer) == ("other", 1) else 2}
        for prompt in range(n) for donor in ("same", "other") for layer in (0, 1)
    ])  # fmt: skip
    row = causes.responds(some)[0]
    assert (row["layer"], row["value"], row["control"]) == (None, 0, 1)


@pytest.mark.parametrize(("shares", "words"), [
    ([0.1, 0.2, 0.4], "after no layer does clean input bring back half"),
    ([0.6, 0.2, 0.5], "half return with clean input after layer 2: through 1 quantized layer"),
    ([0.5, 0.9, 1.0], "half return with clean input after layer 0 or any later one: through up to 3 quantized layers"),
])  # fmt: skip
def test_reach_is_the_layer_from_which_on_half_return(shares, words):
    assert causes._reach(shares) == words


def test_a_layer_alone_is_full_precision_with_that_layer_quantized(pair: Pair, asked: pd.DataFrame):
    probes = pair.halves[0]
    kept = []
    for layer in range(3):
        take = f".layers.{layer}."
        mixed = models.splice(pair.study.base, pair.study.model(pair.label), lambda name, take=take: take in name)
        kept.append((score(Runner(mixed), probes)["rank"] == 1).mean())
    np.testing.assert_allclose(by_layer(asked, "alone"), kept)
    assert whole(asked, "alone")["value"] == min(kept)
    assert whole(asked, "alone")["note"] == f"layer {int(np.argmin(kept))}, the worst"


def test_halves_share_no_prompt_and_are_all_of_the_sample(pair: Pair):
    one, other = ({tuple(ids) for ids in half.input_ids} for half in pair.halves)
    assert not one & other
    assert one | other == {tuple(ids) for ids in pair.study.sample(40).input_ids}


def made_up(values: dict[tuple[str, int], tuple[float, float, float, float]]) -> pd.DataFrame:
    """(measure, layer) -> in place, clean, its low, its high."""
    rows = []
    for (measure, layer), (place, clean, low, high) in values.items():
        row = {"measure": measure, "layer": layer, "position": "last", "head": None, "shuffled": 0.1, "n": 40}
        rows.append(row | {"condition": "in_situ", "estimate": place, "low": place, "high": place})
        rows.append(row | {"condition": "clean", "estimate": clean, "low": low, "high": high})
    return pd.DataFrame(rows)


def test_a_failure_is_inherited_where_clean_input_cures_it(pair: Pair):
    some = replace(pair)
    vars(some)["components"] = made_up({
        ("ffn_cosine", 0): (0.9, 0.95, 0.9, 1.0), ("attn_cosine", 0): (0.49, 0.4, 0.3, 0.6),
        ("ffn_cosine", 1): (0.2, 0.8, 0.7, 0.9), ("attn_cosine", 1): (0.3, 0.45, 0.4, 0.49),
        ("sign_flips", 1): (0.4, 0.1, 0.1, 0.1),
    })  # fmt: skip
    (row,) = causes.inherited(some)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((2 / 3, 1 / 3, 2 / 3))
    assert (row["n"], row["control"]) == (3, 1)
    assert row["note"] == "3 of 4 attentions and FFNs fail in place, the first in layer 0"
    vars(some)["components"] = made_up({("ffn_cosine", 0): (0.5, 0.1, 0.1, 0.1)})
    (row,) = causes.inherited(some)
    assert np.isnan(row["value"])


def test_repair_protects_the_layers_that_the_chapter_protects(pair: Pair, asked: pd.DataFrame):
    lost = pair.study.known.select(pair.lost)
    mirror = models.splice(
        pair.study.model(pair.label), pair.study.base, lambda name: ".layers.1." in name or ".layers.2." in name
    )
    gains = [(score(Runner(model), lost)["rank"] == 1).mean() for model in (clean_below(pair, 1), mirror)]
    assert (whole(asked, "repair")["value"], whole(asked, "repair")["control"]) == pytest.approx(tuple(gains))


def test_steps_are_measured_on_the_half_that_chose_nothing(pair: Pair):
    found = ladder.steps(pair, [2, 0, 1]).set_index("signal")
    assert list(found.index) == ["as it is", "layer 0 in 8 bits", "layer 2 in 8 bits", *(
        f"all layers in {bits} bits, rounded to nearest" for bits in (3, 4))]  # fmt: skip
    probes, base, own = pair.halves[1], pair.study.base, pair.study.model(pair.label)
    expected = {
        "as it is": own, "layer 0 in 8 bits": clean_below(pair, 0),
        "layer 2 in 8 bits": models.splice(own, base, lambda name: ".layers.2." in name),
    }  # fmt: skip
    for step, model in expected.items():
        right = score(Runner(model), probes)["rank"] == 1
        assert tuple(found.loc[step, ["value", "low", "high"]]) == pytest.approx(tuple(stats.share(right)))
    config, scheme = base.hf.config, Scheme("rtn", 2, GROUP)
    assert found.loc["as it is", "average_bits"] == pytest.approx(average_bits(config, scheme))
    eight = replace(scheme, bits_by_layer=((2, 8),))
    assert found.loc["layer 2 in 8 bits", "average_bits"] == pytest.approx(average_bits(config, eight))
    assert (found["n"] == 20).all()


def test_more_bits_are_those_of_a_rounded_checkpoint(pair: Pair, tmp_path: Path):
    found = ladder.steps(pair, [0, 1, 2]).set_index("signal")
    folder = quantize(pair.study.parameters.model, Scheme("rtn", 3, GROUP), (), tmp_path)
    right = score(Runner(models.load(folder)), pair.halves[1])["rank"] == 1
    assert found.loc["all layers in 3 bits, rounded to nearest", "value"] == pytest.approx(right.mean())


def test_a_model_is_offered_more_bits_than_it_has(base: Path, text: Path, quantized, tmp_path: Path):
    study = Study(base, quantized=quantized(3), text=text, n_facts=80, run=tmp_path)
    own = Pair(study, next(iter(study.variants)), 40, partial(components.of_variant, study, FULL, 40))
    offered = ladder.steps(own, [0, 1, 2])["signal"]
    assert offered[offered.str.startswith("all layers")].tolist() == ["all layers in 4 bits, rounded to nearest"]


def test_layers_in_words():
    assert ladder._layers([3]) == "layer 3"
    assert ladder._layers([0, 1, 2]) == "layers 0 to 2"
    assert ladder._layers([0, 2]) == "layers 0, 2"
