"""Which facts a model knows: the rule by hand on scripted answers, the shipped list against SmolLM2 itself."""

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantcliff import models, smollm2
from quantcliff.models import Model
from quantcliff.probes import Facts, facts, sources
from quantcliff.training import knowledge, wordings

PARAREL = Path(os.environ.get("PARAREL_DIR", Path(__file__).parents[3] / "shared" / "pararel"))
needs_smollm2 = pytest.mark.skipif(
    not smollm2.folder().is_dir(), reason=f"SmolLM2 is not on this machine; {smollm2.HOW}"
)


@pytest.fixture(scope="module")
def pair() -> tuple[Model, Model]:
    return models.load("smollm2"), models.load("smollm2", dtype="bfloat16")


# the rule, on answers that a script gives


@pytest.fixture
def capitals(tmp_path: Path) -> Facts:
    """Four facts of one relation with three wordings, in ParaRel's layout; the last holds one of the objects."""
    root = tmp_path / "pararel"
    (root / "pattern_data" / "graphs_json").mkdir(parents=True)
    (root / "trex_lms_vocab").mkdir()
    patterns = ["Ways from [X] lead to [Y]", "They sent [X] to [Y]", "In Rome [X] means [Y]", "[Y] is no ending of [X]"]
    pairs = [("Italy", "Rome"), ("France", "Paris"), ("Spain", "Madrid"), ("Kenya", "Nairobi")]
    lines = [json.dumps({"pattern": pattern}) for pattern in patterns]
    (root / "pattern_data" / "graphs_json" / "P1.jsonl").write_text("\n".join(lines))
    triples = [json.dumps({"sub_label": s, "obj_label": o}) for s, o in pairs]
    (root / "trex_lms_vocab" / "P1.jsonl").write_text("\n".join(triples))
    return facts.load(root)


@pytest.fixture
def scripted(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch):
    """A model whose ranks are looked up by prompt; what was asked of whom is written down."""
    fine, coarse = models.load(tiny_llama), models.load(tiny_llama, dtype="bfloat16")
    right: dict[str, int] = {}
    asked: list[tuple[str, str]] = []

    def ranks(model, probes):
        name = "fine" if model is fine else "coarse"
        asked.extend((name, prompt) for prompt in probes.table["prompt"])
        return np.array([right.get(f"{name}: {p}", right.get(p, 100)) for p in probes.table["prompt"]], dtype=np.int64)

    monkeypatch.setattr(knowledge, "ranks", ranks)
    monkeypatch.setattr(knowledge, "guesses", lambda model, way: set())
    return fine, coarse, right, asked


def test_most_wordings_make_a_fact_known(capitals, scripted):
    fine, coarse, right, _ = scripted
    right.update({"Ways from France lead to": 1, "They sent France to": 1})
    right.update({"Ways from Spain lead to": 1, "They sent Spain to": 2, "In Rome Spain means": 3})
    right.update({"Ways from Italy lead to": 1, "They sent Italy to": 2})
    found = knowledge.ask(fine, coarse, capitals)
    assert list(found.columns) == list(knowledge.FIELDS)
    assert found.to_dict("records") == [
        {"relation": "P1", "subject": "France", "objects": "Paris", "prompt": "Ways from France lead to",
         "answered": 2, "asked": 3},
    ], "one of three is not most, nor is one of the two that do not name Rome"  # fmt: skip
    right["They sent Italy to"] = 1
    italy = knowledge.ask(fine, coarse, capitals).set_index("subject").loc["Italy"]
    assert (italy["answered"], italy["asked"]) == (2, 2)


def test_a_fact_that_cannot_be_known_any_more_is_not_asked_again(capitals, scripted):
    fine, coarse, right, asked = scripted
    right.update({"They sent Spain to": 1, "In Rome Spain means": 1})
    found = knowledge.ask(fine, coarse, capitals)
    assert found["subject"].tolist() == ["Spain"], "a first wrong answer of three leaves it open"
    coarse_asked = [prompt for name, prompt in asked if name == "coarse"]
    assert "In Rome Kenya means" not in coarse_asked and "They sent Kenya to" in coarse_asked
    assert "They sent Italy to" not in coarse_asked, "one of two is not most"


def test_full_precision_decides_and_is_asked_only_what_is_likely(capitals, scripted):
    fine, coarse, right, asked = scripted
    for way in ("Ways from {} lead to", "They sent {} to", "In Rome {} means"):
        right |= {f"coarse: {way.format('France')}": knowledge.SIEVE, f"fine: {way.format('France')}": 1}
        right |= {f"coarse: {way.format('Spain')}": 1, f"fine: {way.format('Spain')}": 2}
        right |= {f"coarse: {way.format('Kenya')}": knowledge.SIEVE + 1, f"fine: {way.format('Kenya')}": 1}
    assert knowledge.ask(fine, coarse, capitals)["subject"].tolist() == ["France"]
    assert not [prompt for name, prompt in asked if name == "fine" and "Kenya" in prompt]


def test_an_answer_that_needs_no_subject_is_a_guess(capitals, scripted, monkeypatch):
    fine, coarse, right, _ = scripted
    for country in ("France", "Spain"):
        right |= {f"Ways from {country} lead to": 1, f"They sent {country} to": 1}
    probes = facts.probe(capitals, fine.tokenizer)
    paris = set(probes.answers[probes.table["subject"].tolist().index("France")])
    assert not paris & set(probes.answers[probes.table["subject"].tolist().index("Spain")])
    monkeypatch.setattr(knowledge, "guesses", lambda model, way: paris if way.startswith("Ways") else set())
    assert knowledge.ask(fine, coarse, capitals)["subject"].tolist() == ["Spain"]


def test_guesses_are_first_choices_without_a_subject(tiny_llama):
    model = models.load(tiny_llama)
    found = knowledge.guesses(model, "[X] lies in [Y]")
    firsts = {int(model.hf(model.tokenizer(text, return_tensors="pt").input_ids).logits[0, -1].argmax())
              for text in ("It lies in", "This person lies in")}  # fmt: skip
    assert found == firsts


def test_ranks_are_those_of_the_whole_model(tiny_llama):
    from quantcliff.tracing import Runner, score

    probes = facts.probe(facts.load("atlas", n_facts=70), models.load(tiny_llama).tokenizer)
    whole = score(Runner(models.load(tiny_llama)), probes)["rank"].to_numpy()
    np.testing.assert_array_equal(knowledge.ranks(models.load(tiny_llama), probes), whole)


def test_a_stopped_selection_goes_on_and_a_changed_question_is_asked_again(capitals, scripted, tmp_path):
    fine, coarse, right, asked = scripted
    right.update({"Ways from France lead to": 1, "They sent France to": 1})
    first = knowledge.select(fine, coarse, capitals, tmp_path / "work")
    assert asked and first["subject"].tolist() == ["France"]
    asked.clear()
    pd.testing.assert_frame_equal(knowledge.select(fine, coarse, capitals, tmp_path / "work"), first)
    assert not asked
    file = Path(capitals.name) / "pattern_data" / "graphs_json" / "P1.jsonl"
    file.write_text(file.read_text().replace("They sent", "Someone sent"))
    assert knowledge.select(fine, coarse, capitals, tmp_path / "work").empty and asked


def test_the_list_says_how_it_was_made_and_can_be_asked(capitals, scripted, tmp_path):
    fine, coarse, right, _ = scripted
    right.update({"Ways from France lead to": 1, "They sent France to": 1})
    known = knowledge.ask(fine, coarse, capitals)
    knowledge.write(fine, capitals, known, tmp_path / "out" / "known.csv", "some command")
    about = json.loads((tmp_path / "out" / "known.json").read_text())
    assert about["sha256"] == hashlib.sha256((tmp_path / "out" / "known.csv").read_bytes()).hexdigest()
    assert (about["facts_asked"], about["facts_known"], about["known_by_relation"]) == (4, 1, {"P1": 1})
    assert about["model_digest"] == fine.digest and about["command"] == "some command"
    again = facts.load(tmp_path / "out" / "known.csv").rows.iloc[0]
    assert (again["prompt"], again["objects"], again["relation"]) == ("Ways from France lead to", ["Paris"], "P1")


# what is shipped


def test_the_shipped_list_is_the_one_that_its_note_describes():
    about = json.loads(smollm2.FACTS.with_suffix(".json").read_text())
    assert about["sha256"] == hashlib.sha256(smollm2.FACTS.read_bytes()).hexdigest()
    listed = pd.read_csv(smollm2.FACTS, keep_default_na=False)
    assert list(listed.columns) == list(knowledge.FIELDS)
    assert about["known_by_relation"] == listed.groupby("relation").size().to_dict()
    assert about["facts_asked"] == len(facts.embedded())
    assert len(listed) == about["facts_known"] >= 500
    assert (2 * listed["answered"] > listed["asked"]).all() and (listed["asked"] <= sources.WORDINGS).all()
    assert not listed.duplicated(["relation", "subject"]).any()
    embedded = {(row.relation, row.subject): row for row in facts.embedded().rows.itertuples()}
    for row in listed.itertuples():
        fact = embedded[row.relation, row.subject]
        assert (row.prompt, row.objects) == (fact.prompt, fact.objects[0])


def test_known_facts_can_be_asked_in_all_their_wordings():
    found = facts.load("smollm2", n_facts=300)
    assert len(found) == 300 and found.name == "smollm2"
    ways = facts.paraphrases(found)
    assert ways.rows.groupby("fact").size().between(3, sources.WORDINGS).all()
    assert set(ways.rows["fact"]) == set(found.rows["fact"])
    subjects = found.rows.set_index("fact")["subject"]
    assert (ways.rows["subject"].to_numpy() == subjects[ways.rows["fact"]].to_numpy()).all()
    assert set(found.rows["prompt"]) <= set(ways.rows["prompt"])


def test_wordings_are_in_order_and_none_is_pararels():
    pool = pd.read_csv(smollm2.WORDINGS)
    assert not pool.duplicated(["relation", "template"]).any()
    for _, group in pool.groupby("relation"):
        assert group["right"].is_monotonic_decreasing and len(group) > sources.WORDINGS
        assert group["right"].between(0, wordings.SAMPLE).all()
    for template in pool["template"]:
        assert template.endswith("[Y]") and template.count("[X]") == template.count("[Y]") == 1
    used = sources.wordings("smollm2")
    assert set(used) == set(sources.wordings("atlas"))
    assert all(len(ways) == sources.WORDINGS for ways in used.values())
    if PARAREL.is_dir():
        patterns = (PARAREL / "data" / "pattern_data" / "graphs_json").glob("*.jsonl")
        lines = [json.loads(line)["pattern"] for file in patterns for line in file.read_text().splitlines() if line]
        theirs = {re.sub(r"\s*\.?\s*$", "", line).lower() for line in lines}
        assert len(theirs) > 200 and not theirs & set(pool["template"].str.lower())


@needs_smollm2
def test_a_part_of_the_list_made_again_is_the_same(pair):
    """20 facts on the list, 20 of the same relations that are not; float32 on another machine may turn one of them."""
    assert json.loads(smollm2.FACTS.with_suffix(".json").read_text())["model_digest"] == pair[0].digest
    listed = pd.read_csv(smollm2.FACTS, keep_default_na=False)
    relations = ["P36", "P1376", "P17", "P103"]
    rows = facts.embedded().rows
    rows = rows[rows["relation"].isin(relations)]
    on = pd.Series(list(zip(listed["relation"], listed["subject"], strict=True)))
    is_on = pd.Series(list(zip(rows["relation"], rows["subject"], strict=True)), index=rows.index).isin(on)
    chosen = pd.concat([rows[is_on].sample(20, random_state=1), rows[~is_on].sample(20, random_state=1)])
    expected = listed.merge(chosen[["relation", "subject"]])
    assert len(expected) == 20
    found = []
    for _, part in chosen.groupby("relation"):
        found.append(knowledge.ask(*pair, Facts(part, facts.no_drops(), "smollm2")))
    keys = ["relation", "subject", "objects", "prompt"]
    same = pd.concat(found).merge(expected, on=keys, how="outer", suffixes=("", "_shipped"))
    assert len(same) <= 21 and (same["answered"] == same["answered_shipped"]).sum() >= 19


@needs_smollm2
def test_the_sieve_lets_every_right_answer_through(pair):
    probes = facts.probe(facts.load("smollm2", n_facts=256), pair[0].tokenizer)
    fine, coarse = (knowledge.ranks(model, probes) for model in pair)
    assert (fine == 1).mean() > 0.5
    assert coarse[fine == 1].max() < knowledge.SIEVE


@needs_smollm2
def test_wordings_tried_again_fare_alike(pair):
    pool = pd.read_csv(smollm2.WORDINGS)
    shipped = pool[pool["relation"] == "P1376"].head(6)
    again = wordings.rate(pair[1], shipped[["relation", "template"]].sample(frac=1, random_state=0))
    both = again.merge(shipped, on=["relation", "template"], suffixes=("", "_shipped"))
    assert len(both) == 6 and (both["right"] - both["right_shipped"]).abs().max() <= 2
    assert again["right"].is_monotonic_decreasing
