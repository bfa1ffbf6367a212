"""One fact, dissected: which facts are drawn, and whether what is written down of them is what the models do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import random_probes

from quantcliff import smollm2 as real
from quantcliff.diagnosis import dissect
from quantcliff.diagnosis.dissect import FOLDER
from quantcliff.study import FULL, Study

needed = pytest.mark.skipif(not (FOLDER / "made.json").is_file(), reason="no tables are shipped yet")


@pytest.fixture(scope="module")
def study(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """24 prompts, each with full precision's own first choice as its answer, and two models."""
    study = Study(tiny_llama, method="rtn", bits="3,2", group_size=16, run=tmp_path_factory.mktemp("run"))
    probes = random_probes(24)
    first = [int(study.runner(FULL).logits(torch.tensor([ids]))[0, -1].argmax()) for ids in probes.input_ids]
    table = probes.table.assign(relation=["a", "b", "c"] * 8, subject=[f"s{max(n, 1)}" for n in range(24)])
    study.probes = replace(probes, answers=[[token] for token in first], table=table)
    return study


def test_the_reference_is_the_first_methods_model_nearest_to_three_bits(tiny_llama: Path, tmp_path: Path):
    for method, bits, label in (("rtn,gptq", "8,4,2", "rtn-4bit-g16"), ("gptq,rtn", "2,3", "gptq-3bit-g16")):
        study = Study(tiny_llama, method=method, bits=bits, group_size=16, run=tmp_path)
        assert dissect.reference(study) == label


def test_the_chosen_are_what_they_are_called(study: Study):
    chosen, full = dissect.choose(study, each=3), study.known_scores(FULL)["probability"].to_numpy()
    kept = (study.known_scores("rtn-3bit-g16")["rank"] == 1).to_numpy()
    assert 0 < kept.sum() < len(kept) and len(chosen) >= 6
    for row in chosen.itertuples():
        assert row.kind.startswith("easy" if full[row.number] >= np.median(full) else "hard")
        assert row.kind.endswith("survivor" if kept[row.number] else "victim")
        assert row.full == full[row.number]
    subjects = study.known.table["subject"].iloc[chosen["number"]]
    assert subjects.is_unique
    assert chosen.groupby("kind").size().max() <= 3
    pd.testing.assert_frame_equal(chosen, dissect.choose(study, each=3))


def test_relations_take_turns(study: Study):
    for kind, part in dissect.choose(study, each=3).groupby("kind"):
        relations = study.known.table["relation"].iloc[part["number"]].tolist()
        assert len(set(relations[:2])) == min(2, len(relations)), kind


def test_what_is_written_down_is_what_the_models_do(study: Study):
    chosen, found, facts = dissect.choose(study), dissect.measure(study), dissect.facts_of(study)
    probes = study.known.select(chosen["number"].to_numpy())
    assert facts["prompt"].tolist() == probes.table["prompt"].tolist()
    assert [len(row) for row in facts["tokens"]] == probes.lengths.tolist()
    for label in study.labels:
        mine = found[found["variant"] == label].set_index(["what", "fact"]).sort_index()
        scores = study.known_scores(label).iloc[chosen["number"]].reset_index(drop=True)
        for fact in range(len(chosen)):
            lens, said = mine.loc[(dissect.LENS, fact)], mine.loc[(dissect.SAID, fact)].sort_values("place")
            assert lens["probability"].iloc[-1] == pytest.approx(scores["probability"][fact], abs=1e-4)
            assert lens["rank"].iloc[-1] == scores["rank"][fact] and len(lens) == study.runner(FULL).n_layers
            assert said["token"].iloc[0] == study.base.tokenizer.decode([scores["top1"][fact]])
            assert said["probability"].is_monotonic_decreasing and len(said) == 5
            seen = mine.loc[(dissect.ATTENTION, fact)]
            assert seen.groupby("layer")["probability"].sum().to_numpy() == pytest.approx(1, abs=1e-4)
            assert seen["place"].max() == probes.lengths[fact] - 1


def test_clean_input_up_to_the_last_layer_gives_full_precisions_answer(study: Study):
    found, chosen = dissect.measure(study), dissect.choose(study)
    last = study.runner(FULL).n_layers - 1
    patched = found[(found["what"] == dissect.PATCH) & (found["layer"] == last)]
    assert len(patched) == 2 * len(chosen) and (patched["rank"] == 1).all()
    expected = np.tile(chosen["full"], 2)
    assert patched.sort_values(["variant", "fact"])["probability"].to_numpy() == pytest.approx(expected, abs=1e-4)
    assert found[(found["what"] == dissect.PATCH) & (found["variant"] == FULL)].empty


def test_small_keeps_what_is_drawn(study: Study):
    whole = dissect.measure(study)
    short = dissect.small(whole)
    assert (short["probability"] - whole["probability"]).abs().max() < 0.0051
    assert short["rank"].dropna().tolist() == whole["rank"].dropna().tolist() and "group_size" not in short


@needed
def test_what_ships_is_small_and_whole():
    shipped = dissect.shipped()
    assert set(shipped.made["files"]) == {"facts", "dissect", "lens"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000
    table, facts = shipped.table("dissect"), shipped.table("facts")
    assert facts["kind"].value_counts().tolist() == [4] * 4 and facts["subject"].is_unique
    assert table["variant"].nunique() == 13 and set(table["fact"]) == set(range(16))
    assert "quantcliff smollm2 dissect" in shipped.made["command"] and len(shipped.made["commit"]) == 40


@needed
def test_survivors_and_victims_are_those_of_the_shipped_ranks():
    table, facts = dissect.shipped().table("dissect"), dissect.shipped().table("facts")
    last = table[(table["what"] == dissect.LENS) & (table["layer"] == table["layer"].max())]
    ranks = last[last["variant"] == "gptq-3bit-g64"].set_index("fact")["rank"].sort_index()
    assert ((ranks == 1) == facts["kind"].str.endswith("survivor")).all()
    assert (last[last["variant"] == FULL]["rank"] == 1).all()


@needed
@pytest.mark.skipif(not real.folder().is_dir(), reason=real.HOW)
def test_a_part_of_what_ships_comes_out_again():
    shipped = dissect.shipped()
    again = dissect.again(shipped.table("dissect"), shipped.table("facts").head(4), FULL)
    assert len(again) == 4 and again["difference"].abs().max() < 1e-3 and again["same_ranks"].min() > 0.9


