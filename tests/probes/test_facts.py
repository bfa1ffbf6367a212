"""Facts from every source, and the tokens they are asked in."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from quantcliff.atlas import text
from quantcliff.errors import InputError
from quantcliff.probes import facts
from quantcliff.probes.sources import LIMIT

PARAREL = Path(os.environ.get("PARAREL_DIR", Path(__file__).parents[3] / "shared" / "pararel"))


def write_lines(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records), encoding="utf-8")
    return path


def fact(prompt: str = "Bern lies in", subject: str = "Bern", **rest: object) -> dict[str, object]:
    return {"prompt": prompt, "subject": subject, "object": "Switzerland"} | rest


# the embedded facts


def test_atlas_facts_are_asked_in_the_template_they_never_trained_on() -> None:
    found = facts.load("atlas", n_facts=200)
    prompts = {(f.relation, f.subject): (text.prompt(f), f.object) for f in text.load_facts()}
    for row in found.rows.itertuples():
        assert (row.prompt, row.objects[0]) == prompts[row.relation, row.subject]
    assert list(found.rows["fact"]) == list(range(200))


def test_atlas_draw_is_balanced_over_objects_and_bands() -> None:
    found = facts.load("atlas")
    same = Counter((row.relation, row.objects[0]) for row in found.rows.itertuples())
    assert max(same.values()) == LIMIT
    assert len(found) + len(found.dropped) == len(text.load_facts())
    guess = sum(max(n for (r, _), n in same.items() if r == relation) for relation in {r for r, _ in same})
    assert guess / len(found) < 0.03, "the best guess per relation must score near nothing"
    thousand = facts.load("atlas", n_facts=1000)
    assert thousand.rows["band"].value_counts().to_dict() == dict.fromkeys(range(5), 200)


def test_atlas_bands_are_fifths_of_popularity() -> None:
    rank = {(f.relation, f.subject): f.rank for f in text.load_facts()}
    fifth = len(rank) / 5
    for row in facts.load("atlas", n_facts=300).rows.itertuples():
        assert row.band == int(rank[row.relation, row.subject] // fifth)


def test_atlas_draw_is_nested_and_seeded() -> None:
    few, many, other = (facts.load("atlas", n_facts=n, seed=seed).rows for n, seed in ((50, 1), (100, 1), (50, 2)))
    pd.testing.assert_frame_equal(few, many.iloc[:50])
    assert set(few["prompt"]) != set(other["prompt"])


# ParaRel: sentences of our own in the layout of the real one


def pararel(root: Path) -> Path:
    patterns, triples = root / "data" / "pattern_data" / "graphs_json", root / "data" / "trex_lms_vocab"
    write_lines(patterns / "P1.jsonl", {"pattern": "[Y] holds [X]."}, {"pattern": "You find [X] inside [Y] ."})
    write_lines(patterns / "P2.jsonl", {"pattern": "[X] and [Y] are friends."})
    write_lines(patterns / "P190.jsonl", {"pattern": "A friend of [X] is [Y]"})
    write_lines(patterns / "P9.jsonl", {"pattern": "[X], [X] or [Y]."}, {"pattern": "Of [X] comes [Y]s."})
    pairs = {
        "P1": [("Bern", "Switzerland"), ("Oslo", "Norway"), ("Bank of Spain", "Spain")],
        "P2": [("Ann", "Bob")],
        "P190": [("Turin", "Lyon"), ("Turin", "Chambery"), ("Turin", "Lyon"), ("New Turin", "Turin")],
        "P9": [("Ann", "Bob")],
        "P77": [("Ann", "Bob")],
    }
    for relation, listed in pairs.items():
        write_lines(triples / f"{relation}.jsonl", *({"sub_label": s, "obj_label": o, "uuid": "x"} for s, o in listed))
    return root


@pytest.mark.parametrize("inner", [False, True], ids=["root", "data folder"])
def test_pararel_layout(tmp_path: Path, inner: bool) -> None:
    root = pararel(tmp_path)
    found = facts.load(root / "data" if inner else root)
    assert [(row.relation, row.prompt, row.objects) for row in found.rows.itertuples()] == [
        ("P1", "You find Bern inside", ["Switzerland"]),
        ("P1", "You find Oslo inside", ["Norway"]),
        ("P190", "A friend of Turin is", ["Lyon", "Chambery"]),
    ]
    assert found.rows["band"].isna().all()
    reasons = {(row.relation, row.subject): row.reason for row in found.dropped.itertuples()}
    assert set(reasons) == {
        ("P1", "Bank of Spain"),
        ("P190", "New Turin"),
        ("P2", "Ann"),
        ("P9", "Ann"),
        ("P77", "Ann"),
    }
    assert "trivial" in reasons["P1", "Bank of Spain"] and "no pattern" in reasons["P2", "Ann"]


def test_paraphrases_are_all_wordings_of_a_relation(tmp_path: Path) -> None:
    root = pararel(tmp_path)
    file = root / "data" / "pattern_data" / "graphs_json" / "P1.jsonl"
    write_lines(file, *({"pattern": p} for p in ("[X], in Norway or [Y].", "You find [X] inside [Y] .", "[Y] has [X]")))
    found = facts.load(root)
    assert [row.subject for row in found.rows.itertuples()] == ["Bern", "Turin"], "Oslo's first pattern gives it away"
    found = facts.Facts(pd.concat([found.rows, found.rows[:1].assign(fact=7, subject="Oslo", objects=[["Norway"]])]),
                        found.dropped[:0], found.name)  # fmt: skip
    ways = facts.paraphrases(found)
    assert [(row.fact, row.prompt, row.objects) for row in ways.rows.itertuples()] == [
        (0, "Bern, in Norway or", ["Switzerland"]),
        (0, "You find Bern inside", ["Switzerland"]),
        (1, "A friend of Turin is", ["Lyon", "Chambery"]),
        (7, "You find Oslo inside", ["Norway"]),
    ]
    assert [(row.subject, "trivial" in row.reason) for row in ways.dropped.itertuples()] == [("Oslo", True)]
    given = facts.paraphrases(found, {"P1": ("[X] is ruled by [Y]",)})
    assert given.rows["prompt"].tolist() == ["Bern is ruled by", "A friend of Turin is", "Oslo is ruled by"]


def test_paraphrases_of_other_sources(tmp_path: Path) -> None:
    found = facts.load("atlas", n_facts=20)
    ways = facts.paraphrases(found)
    assert (ways.rows.groupby("fact").size() == 6).all() and set(ways.rows["fact"]) == set(range(20))
    assert set(found.rows["prompt"]) <= set(ways.rows["prompt"])
    assert ways.rows.groupby("fact")["band"].nunique().eq(1).all()
    own = facts.load(write_lines(tmp_path / "facts.jsonl", fact()))
    assert facts.paraphrases(own).rows["prompt"].tolist() == ["Bern lies in"]


def test_n_facts_draws_a_seeded_subset_in_order(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "facts.jsonl", *(fact(f"Town {n:02} lies in", f"Town {n:02}") for n in range(40)))
    one, again, other = (list(facts.load(file, n_facts=10, seed=seed).rows["subject"]) for seed in (0, 0, 1))
    assert one == again == sorted(one) and len(one) == 10
    assert one != other


def test_a_folder_of_another_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a ParaRel folder"):
        facts.load(tmp_path)


def test_a_broken_line_in_pararel_is_named(tmp_path: Path) -> None:
    write_lines(pararel(tmp_path) / "data" / "trex_lms_vocab" / "P1.jsonl", {"sub_label": "Bern"})
    with pytest.raises(InputError, match=r"P1\.jsonl, line 1: the field 'obj_label' is missing"):
        facts.load(tmp_path)


@pytest.mark.skipif(not PARAREL.is_dir(), reason="ParaRel is not here; set PARAREL_DIR to its folder")
def test_the_real_pararel() -> None:
    found = facts.load(PARAREL)
    assert found.rows["relation"].nunique() == 39
    assert len(found) > 20_000
    asked = found.rows
    assert not any(item.lower() in row.prompt.lower() for row in asked.itertuples() for item in row.objects)
    assert all(row.prompt.count(row.subject) and not row.prompt.endswith((" ", ".")) for row in asked.itertuples())
    assert not asked.duplicated(["relation", "subject"]).any()
    assert asked[asked["relation"] == "P190"]["objects"].map(len).max() > 1
    assert set(found.dropped[found.dropped["reason"].str.contains("no pattern")]["relation"]) == {"P31", "P527"}


# JSONL and CSV


def test_jsonl_fields(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "facts.jsonl",
        fact(relation="country", band=2),
        "",
        fact(objects=["Europe", "the Alps"], object=None),
    )
    rows = facts.load(file).rows
    assert list(rows["relation"]) == ["country", "facts"]
    assert [list(objects) for objects in rows["objects"]] == [["Switzerland"], ["Europe", "the Alps"]]
    assert rows["band"].tolist() == [2, pd.NA] and rows["template"][0] == "[X] lies in [Y]"


def test_csv_fields(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "facts.csv", "prompt,subject,objects,band", '"Bern, a city, lies in",Bern,Europe|Asia,0'
    )
    row = facts.load(file).rows.iloc[0]
    assert (row["prompt"], list(row["objects"]), row["band"]) == ("Bern, a city, lies in", ["Europe", "Asia"], 0)


def test_trivial_objects_are_dropped_and_said(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "facts.jsonl",
        fact("New york is in", "New york", object="New York"),
        fact(objects=["bern", "Europe"]),
    )
    found = facts.load(file)
    assert [list(objects) for objects in found.rows["objects"]] == [["Europe"]]
    assert found.dropped.values.tolist() == [["facts", "New york", "trivial: the object stands in the prompt"]]


BAD_LINES = {
    "not valid JSON": "{",
    "not a JSON object": "[1]",
    "the field 'subject' is missing": {"prompt": "Bern lies in", "object": "Europe"},
    "the field 'object' is missing": {"prompt": "Bern lies in", "subject": "Bern"},
    "the field 'prompt' is empty": fact(prompt=" "),
    "the field 'object' is empty": fact(object=""),
    "the field 'object' is empty or not a text": fact(object=7),
    "objects must be a list of texts": fact(objects=["Europe", ""]),
    "the subject 'Basel' is not in the prompt": fact(subject="Basel"),
    "band must be a whole number": fact(band="popular"),
}


@pytest.mark.parametrize("message", BAD_LINES)
def test_a_bad_jsonl_line_is_named(tmp_path: Path, message: str) -> None:
    file = write_lines(tmp_path / "facts.jsonl", fact(), BAD_LINES[message])
    with pytest.raises(InputError, match=rf"facts\.jsonl, line 2: {message}"):
        facts.load(file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Bern lies in,Bern", "the field 'object' is missing"),
        ("Bern lies in,,Europe", "the field 'subject' is empty"),
        ("Bern, a city, lies in,Bern,Europe", "more fields than the first line names"),
    ],
)
def test_a_bad_csv_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = write_lines(tmp_path / "facts.csv", "prompt,subject,object", "Oslo lies in,Oslo,Norway", line)
    with pytest.raises(InputError, match=rf"facts\.csv, line 3: {message}"):
        facts.load(file)


HALF = "\\ud83d"
"""Half of an emoji, as JSON spells it."""


@pytest.mark.parametrize("field", ["prompt", "subject", "object", "relation", "objects"])
def test_half_of_a_character_is_named(tmp_path: Path, field: str) -> None:
    record = fact(relation="r") | {field: "x"}
    if field == "objects":
        record = fact(objects=["Europe", "x"])
    line = json.dumps(record).replace('"x"', f'"Bern {HALF}"')
    file = write_lines(tmp_path / "facts.jsonl", fact(), line)
    with pytest.raises(InputError, match=rf"line 2: the field '{field}' holds half of a character"):
        facts.load(file)


@pytest.mark.parametrize("n", [6000, 300])
def test_a_quote_that_is_never_closed_loses_no_facts_in_silence(tmp_path: Path, n: int) -> None:
    rows = [f"The capital of Land{i} is,Land{i},{chr(34) if i == 50 else ''}Paris" for i in range(n)]
    file = write_lines(tmp_path / "facts.csv", "prompt,subject,object", *rows)
    with pytest.raises(InputError, match=r"facts\.csv, line 52: a quote is opened and not closed"):
        facts.load(file)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no fact source"):
        facts.load(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="no fact source"):
        facts.load(write_lines(tmp_path / "facts.txt", fact()))
    with pytest.raises(InputError, match="holds no facts"):
        facts.load(write_lines(tmp_path / "empty.jsonl"))
    with pytest.raises(InputError, match="in every one the object stands in the prompt"):
        facts.load(write_lines(tmp_path / "trivial.jsonl", fact(object="bern")))
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "Zürich"}'.encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        facts.load(tmp_path / "latin.jsonl")
    with pytest.raises(InputError, match="at least one fact"):
        facts.load("atlas", n_facts=0)


# tokens


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_llama)


def metaspace(prepend: str) -> PreTrainedTokenizerFast:
    """Like a SentencePiece tokenizer: a space belongs to the word after it, and digits stand alone."""
    words = ["▁Bern", "▁lies", "▁in", "▁Switzerland", "▁", "▁The", "▁city", "▁year", "▁of", "▁was", *"0123456789"]
    vocab = {"<s>": 0, "</s>": 1, "<unk>": 2} | {word: number for number, word in enumerate(words, 3)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme=prepend), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    special = [("<s>", 0), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


Probing = Callable[..., facts.Probes]


@pytest.fixture
def probing(tmp_path: Path) -> Probing:
    def probe(tokenizer: PreTrainedTokenizerFast, *records: dict[str, object]) -> facts.Probes:
        return facts.probe(facts.load(write_lines(tmp_path / "facts.jsonl", *records)), tokenizer)

    return probe


def test_prompt_and_answer_join_to_the_tokenized_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    found = facts.load("atlas", n_facts=60)
    probes = facts.probe(found, tokenizer)
    assert len(probes) == 60
    for ids, answers, row in zip(probes.input_ids, probes.answers, probes.table.itertuples(), strict=True):
        whole = tokenizer(f"{row.prompt} {row.object}").input_ids
        assert whole[: len(ids) + 1] == [*ids, *answers]


def test_subject_span_holds_the_subject_and_nothing_else(tokenizer: PreTrainedTokenizerFast) -> None:
    probes = facts.probe(facts.load("atlas", n_facts=60), tokenizer)
    for ids, (first, last), row in zip(probes.input_ids, probes.subject, probes.table.itertuples(), strict=True):
        assert tokenizer.decode(ids[first : last + 1]).strip() == row.subject
    assert (probes.subject[:, 1] <= probes.last).all()


def test_the_subject_is_found_where_the_template_has_it(probing: Probing, tokenizer: PreTrainedTokenizerFast) -> None:
    probes = probing(tokenizer, fact("In the Inn valley, Inn is in", "Inn"), fact("Inner Inn is in", "Inn"))
    for ids, (first, last), start in zip(probes.input_ids, probes.subject, (7, 6), strict=True):
        before = tokenizer.decode(ids[1:first]).strip()
        assert len(before) == start - 1 and tokenizer.decode(ids[first : last + 1]).strip() == "Inn"


@pytest.mark.parametrize("prepend", ["always", "first"])
def test_a_space_that_belongs_to_the_next_word(probing: Probing, prepend: str) -> None:
    tokenizer = metaspace(prepend)
    probes = probing(tokenizer, fact("The city Bern lies in", "Bern"))
    assert tokenizer.convert_ids_to_tokens(probes.input_ids[0]) == ["<s>", "▁The", "▁city", "▁Bern", "▁lies", "▁in"]
    assert tokenizer.convert_ids_to_tokens(probes.answers[0]) == ["▁Switzerland"]
    assert probes.subject.tolist() == [[3, 3]]


def test_a_space_that_is_a_token_of_its_own_joins_the_prompt(probing: Probing) -> None:
    tokenizer = metaspace("always")
    probes = probing(tokenizer, fact("The year of Bern was", "Bern", objects=["1191", "20"]))
    assert tokenizer.convert_ids_to_tokens(probes.input_ids[0])[-2:] == ["▁was", "▁"]
    assert tokenizer.convert_ids_to_tokens(probes.answers[0]) == ["1", "2"]


def test_what_a_tokenizer_cannot_ask_is_dropped_and_said(probing: Probing) -> None:
    tokenizer = metaspace("always")
    probes = probing(
        tokenizer,
        fact(),
        fact("Bern lies near", object="Thun"),
        fact("Bern lies in", objects=["Thun", "Switzerland"]),
    )
    assert list(probes.table["fact"]) == [0, 2]
    assert tokenizer.convert_ids_to_tokens(probes.answers[1]) == ["▁Switzerland"]
    assert "empty after tokenizing" in probes.dropped["reason"].item()


def test_an_object_that_is_empty_after_tokenizing(probing: Probing, tokenizer: PreTrainedTokenizerFast) -> None:
    bare = metaspace("always")
    bare.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("\u200b", ""), normalizers.Strip()])
    with pytest.raises(InputError, match="the object is empty after tokenizing"):
        probing(bare, fact(object="\u200b"))


def test_a_subject_that_is_empty_after_tokenizing(probing: Probing) -> None:
    bare = metaspace("always")
    bare.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(InputError, match="the subject is empty after tokenizing"):
        probing(bare, fact("\u200b lies in", "\u200b"))


def test_a_prompt_that_grows_together_with_its_object(probing: Probing) -> None:
    whole = Tokenizer(models.WordLevel({"<unk>": 0, "Bern lies": 1, "Bern lies north": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="<unk>")
    with pytest.raises(InputError, match="joins the end of the prompt with the object"):
        probing(tokenizer, fact("Bern lies", object="north"))


def test_answers_that_share_a_first_token_count_once(probing: Probing, tokenizer: PreTrainedTokenizerFast) -> None:
    probes = probing(tokenizer, fact(objects=["Rome", "Rome again", "Paris"]))
    assert len(probes.answers[0]) == 2
    assert probes.table["object"][0] == "Rome | Rome again | Paris"


def test_a_slow_tokenizer_is_refused(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(InputError, match="fast tokenizer"):
        facts.probe(facts.load("atlas", n_facts=2), tokenizer)


# the probe set


def test_select_keeps_rows_together(tokenizer: PreTrainedTokenizerFast) -> None:
    probes = facts.probe(facts.load("atlas", n_facts=20), tokenizer)
    some = probes.select([7, 3])
    assert some.table["fact"].tolist() == [7, 3] and list(some.table.index) == [0, 1]
    assert some.input_ids == [probes.input_ids[7], probes.input_ids[3]]
    assert some.answers == [probes.answers[7], probes.answers[3]]
    assert (some.subject == probes.subject[[7, 3]]).all()
    assert (some.lengths == probes.lengths[[7, 3]]).all() and (some.last == some.lengths - 1).all()
    mask = np.arange(20) == 5
    assert probes.select(mask).table["fact"].tolist() == [5]
    assert len(probes.select(np.zeros(20, dtype=bool))) == 0


def test_digest_follows_the_content(tokenizer: PreTrainedTokenizerFast) -> None:
    one, again, other = (facts.probe(facts.load("atlas", n_facts=9, seed=s), tokenizer) for s in (0, 0, 1))
    assert one.digest == again.digest != other.digest
    assert one.select(range(9)).digest == one.digest != one.select(range(8, -1, -1)).digest
    moved = facts.Probes(one.input_ids, one.answers, one.subject - 1, one.table, one.dropped)
    assert moved.digest != one.digest


def test_parts_of_different_lengths_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    probes = facts.probe(facts.load("atlas", n_facts=4), tokenizer)
    with pytest.raises(ValueError, match="different lengths"):
        facts.Probes(probes.input_ids[:3], probes.answers, probes.subject, probes.table, probes.dropped)
