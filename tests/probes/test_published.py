"""Facts as others publish them: what is read, what is left out, and that every line is accounted for."""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from quantcliff.errors import InputError
from quantcliff.probes import facts

PARAREL = Path(os.environ.get("PARAREL_DIR", Path(__file__).parents[3] / "shared" / "pararel"))

needs_pararel = pytest.mark.skipif(not PARAREL.is_dir(), reason="ParaRel is not here; set PARAREL_DIR to its folder")


def shown(found: facts.Facts) -> list[tuple]:
    return [(row.relation, row.prompt, row.subject, row.objects) for row in found.rows.itertuples()]


def reasons(found: facts.Facts) -> list[tuple]:
    return [(row.subject, row.reason) for row in found.dropped.itertuples()]


def counterfact(subject: str, prompt: str, right: str | None, relation: str = "P103") -> dict:
    target = {"target_true": {"str": right, "id": "Q1"}} if right else {}
    asked = {"prompt": prompt, "relation_id": relation, "target_new": {"str": "Dutch"}, "subject": subject}
    return {"case_id": 0, "requested_rewrite": asked | target, "paraphrase_prompts": ["Unrelated. Ann speaks"]}


def test_counterfact_as_it_is_published(tmp_path: Path) -> None:
    file = tmp_path / "counterfact.json"
    tongue = "The mother tongue of {} is"
    file.write_text(json.dumps([
        counterfact("Ann Lee", tongue, "French"),
        counterfact("Bo", "{}, who works as", "actor", "P106"),
        counterfact("Ann Lee", tongue, "Breton"),
        counterfact("Cy", tongue, None),
        counterfact("Swiss German Di", tongue, "German"),
        counterfact("", tongue, "German"),
    ]))  # fmt: skip
    found = facts.load(file)
    assert shown(found) == [
        ("P103", "The mother tongue of Ann Lee is", "Ann Lee", ["French", "Breton"]),
        ("P106", "Bo, who works as", "Bo", ["actor"]),
    ]
    trivial = "trivial: the object stands in the prompt"
    assert reasons(found) == [
        ("Cy", "it has no true target"), ("", "it has no subject"), ("Swiss German Di", trivial),
    ]  # fmt: skip
    counted = facts.counts(found)
    assert counted.loc["P103", ["lines", "facts", "several", trivial]].tolist() == [5, 1, 1, 1]
    assert counted.loc["P106", ["lines", "facts", "several", trivial]].tolist() == [1, 1, 0, 0]


def test_known_facts_as_they_are_published(tmp_path: Path) -> None:
    file = tmp_path / "known_1000.json"
    record = {
        "known_id": 0, "subject": "Vinson Peak", "attribute": "Antarctica", "template": "{} lies in the continent of",
        "prediction": " of Antarctica. It", "prompt": "Vinson Peak lies in the continent of", "relation_id": "P30",
    }  # fmt: skip
    file.write_text(json.dumps([record]))
    assert shown(facts.load(file)) == [
        ("P30", "Vinson Peak lies in the continent of", "Vinson Peak", ["Antarctica"]),
    ]  # fmt: skip


def lama(root: Path) -> Path:
    (root / "data" / "TREx").mkdir(parents=True)
    relations = [
        {"relation": "P19", "template": "[X] was born in [Y] .", "label": "place of birth", "type": "N-1"},
        {"relation": "P30", "template": "[Y] holds [X] .", "label": "continent", "type": "N-1"},
    ]
    (root / "data" / "relations.jsonl").write_text("\n".join(map(json.dumps, relations)))
    for name, pairs in {"P19": [("Ann", "Bern"), ("Ann", "Bern"), ("Bo", "Oslo")], "P30": [("Bern", "Europe")]}.items():
        lines = [{"uuid": "x", "sub_label": s, "obj_label": o, "evidences": []} for s, o in pairs]
        (root / "data" / "TREx" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_a_lama_folder(tmp_path: Path) -> None:
    found = facts.load(lama(tmp_path))
    assert shown(found) == [("P19", "Ann was born in", "Ann", ["Bern"]), ("P19", "Bo was born in", "Bo", ["Oslo"])]
    assert reasons(found) == [("Bern", "its relation has no pattern that ends in the object")]
    assert facts.counts(found)["lines"].to_dict() == {"P19": 3, "P30": 1}


def test_masked_sentences_of_lama(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    lines = [
        {"sub": "bird", "obj": "fly", "pred": "CapableOf", "masked_sentences": ["A bird is able to [MASK]."]},
        {"sub": "bird", "obj": "sky", "pred": "AtLocation", "masked_sentences": ["In the [MASK] a bird sings."]},
        {"sub": "fish", "obj": "swim", "pred": "CapableOf", "masked_sentences": ["They like to [MASK]."]},
        {"sub": "fish", "obj": "swim", "pred": "CapableOf", "masked_sentences": []},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    found = facts.load(file)
    assert shown(found) == [("CapableOf", "A bird is able to", "bird", ["fly"])]
    assert [reason for _, reason in reasons(found)] == [
        "its sentence goes on after the object", "its subject is not in the sentence before the object",
        "it has no sentence",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), [
    ("a.csv", "subject;relation;object;template\nBern;P17;Switzerland;{} lies in\nOslo;P17;Norway;{} lies in\n"),
    ("a.tsv", "subj\tprop\tobj\tquestion\nBern\tP17\tSwitzerland\tBern lies in\nOslo\tP17\tNorway\tOslo lies in\n"),
    ("a.csv", "\ufeffrelation_id,sub_label,obj_label,pattern\nP17,Bern,Switzerland,[X] lies in [Y] .\n"
              "P17,Oslo,Norway,[X] lies in [Y].\n"),
    ("a.jsonl", '{"prompt": "{} lies in", "subject": "Bern", "target": "Switzerland", "predicate": "P17"}\n'
                '{"prompt": "{} lies in", "subject": "Oslo", "target": "Norway", "predicate": "P17"}\n'),
    ("a.csv", "prompt,subject,answers,relation\nBern lies in ___.,Bern,Switzerland,P17\n"
              "Oslo lies in __,Oslo,Norway,P17\n"),
])  # fmt: skip
def test_tables_as_found_in_the_wild(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert shown(facts.load(file)) == [
        ("P17", "Bern lies in", "Bern", ["Switzerland"]), ("P17", "Oslo lies in", "Oslo", ["Norway"]),
    ]  # fmt: skip


def test_a_file_of_which_nothing_can_be_asked_says_why(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"subject": "Bern", "object": "Europe", "question": "In which continent is it?"}))
    with pytest.raises(InputError, match=r"line 1: no fact of this file can be asked, for its subject is not in the"):
        facts.load(file)
    file.write_text(json.dumps({"sub_label": "Bern", "obj_label": "Europe"}))
    with pytest.raises(InputError, match=r"line 1: the field 'prompt' is missing"):
        facts.load(file)


@needs_pararel
def test_every_line_of_all_39_relations_of_pararel_is_accounted_for() -> None:
    """Counted a second time here, from the files themselves."""
    found = facts.load(PARAREL)
    counted = facts.counts(found)
    trivial = "trivial: the object stands in the prompt"
    assert len(counted) == 41 and (counted["facts"] > 0).sum() == 39
    for relation, row in counted.iterrows():
        right = defaultdict(set)
        lines = (PARAREL / "data" / "trex_lms_vocab" / f"{relation}.jsonl").read_text(encoding="utf-8").splitlines()
        for triple in map(json.loads, lines):
            right[triple["sub_label"].strip()].add(triple["obj_label"].strip())
        own = found.rows[found.rows["relation"] == relation].set_index("subject")
        assert row["lines"] == len(lines)
        assert row.drop(["lines", "several"]).sum() == len(right), "every subject is asked, or left out for one reason"
        if not row["facts"]:
            continue
        words = own["template"].iloc[0].replace("[X]", "").replace("[Y]", "").lower()
        told = {s: {o for o in objects if o.lower() not in s.lower() and o.lower() not in words}
                for s, objects in right.items()}  # fmt: skip
        assert {subject: set(objects) for subject, objects in own["objects"].items()} == {
            subject: objects for subject, objects in told.items() if objects
        }
        assert row["facts"] == sum(map(bool, told.values()))
        assert row["several"] == sum(len(objects) > 1 for objects in told.values())
        assert row[trivial] == sum(not objects for objects in told.values())
    assert counted["lines"].sum() == 29_411
