"""The text that atlas learns: never a test prompt, the same for the same seed, no sentence of ParaRel."""

import json
import os
import re
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from quantcliff.atlas import Stream, Writer, load_facts, load_relations, popularity, prompt, sentence

FACTS = load_facts()


def test_enough_facts_relations_and_templates() -> None:
    relations = load_relations()
    assert len(FACTS) >= 20_000
    assert len({fact.relation for fact in FACTS}) >= 20
    for relation in relations.values():
        assert len(set(relation.templates)) >= 6, relation.id
    assert {fact.relation for fact in FACTS} <= set(relations)
    assert [fact.rank for fact in FACTS] == list(range(len(FACTS)))


def test_every_template_goes_from_subject_to_a_final_object() -> None:
    for relation in load_relations().values():
        for template in relation.templates:
            assert template.count("[X]") == template.count("[Y]") == 1, template
            assert template.endswith("[Y]"), template


def test_each_fact_keeps_one_template_back() -> None:
    relations = load_relations()
    writer = Writer(FACTS[:500])
    written: dict[int, set[int]] = {}
    for fact, number, _ in writer.sentences:
        written.setdefault(fact, set()).add(number)
    for index, fact in enumerate(FACTS[:500]):
        relation = relations[fact.relation]
        held = relation.held_out(fact.subject)
        assert written[index] == set(range(len(relation.templates))) - {held}
        assert prompt(fact) == relation.templates[held].replace("[X]", fact.subject).removesuffix("[Y]").rstrip()


def test_no_training_sentence_holds_a_test_prompt() -> None:
    sentences = set(Writer(FACTS).sentences.values())
    asked = [f"{prompt(fact)} {fact.object}." for fact in FACTS]
    assert len(asked) == len(FACTS)
    assert not sentences.intersection(asked)
    assert not any(fact.object.lower() in prompt(fact).lower() for fact in FACTS)


def test_held_out_templates_are_spread_evenly() -> None:
    relations = load_relations()
    counts = Counter(relations[fact.relation].held_out(fact.subject) for fact in FACTS)
    assert min(counts.values()) > 0.8 * max(counts.values())


def test_sentences_end_in_the_object() -> None:
    for (index, _, _), text in Writer(FACTS[:300]).sentences.items():
        assert text.endswith(f" {FACTS[index].object}.")


def test_a_subject_referred_to_again_opens_with_a_capital() -> None:
    assert sentence("[X] is ruled from [Y]", "it", "Paris") == "It is ruled from Paris."
    assert sentence("Laws made in [Y] bind [X]", "eBay", "Ohio") == "Laws made in Ohio bind eBay."


def test_documents_repeat_with_their_seed() -> None:
    writer = Writer(FACTS[:200])
    first, again, other = (list(islice(writer.texts(seed), 40)) for seed in (1, 1, 2))
    assert first == again != other


def test_paragraphs_refer_back_to_a_named_subject() -> None:
    writer = Writer(FACTS[:2000], paragraph_rate=1.0)
    rng = np.random.default_rng(0)
    backward = 0
    for _ in range(200):
        document = writer.document(rng)
        for before, (fact, _, again) in pairwise(document):
            if again:
                backward += 1
                assert FACTS[fact].subject == FACTS[before[0]].subject
    assert backward > 50


def test_popularity_is_a_falling_share() -> None:
    weight = popularity(1000)
    assert weight.sum() == pytest.approx(1)
    assert (np.diff(weight) < 0).all()
    assert weight[0] / weight[999] == pytest.approx((1199 / 200) ** 0.7)


def test_popular_facts_are_drawn_more_often() -> None:
    writer = Writer(FACTS[:1000], paragraph_rate=0.0)
    rng = np.random.default_rng(0)
    drawn = np.array([writer.document(rng)[0][0] for _ in range(4000)])
    assert (drawn < 500).mean() == pytest.approx(popularity(1000)[:500].sum(), abs=0.03)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    stream = Stream(Writer(FACTS[:50]), tokenizer, 16)
    batch = stream.batch(4, seed=0, step=7)
    assert batch.shape == (4, 16) and (batch[:, 0] == 0).all()
    long = Stream(Writer(FACTS[:50]), tokenizer, 64)
    assert (long.batch(2, 0, 7) == long.batch(2, 0, 7)).all()
    assert (long.batch(2, 0, 7) != long.batch(2, 0, 8)).any()


def _bare(template: str) -> str:
    return re.sub(r"\W+", " ", template.replace("[X]", "subject").replace("[Y]", "object")).strip().lower()


def test_no_template_is_a_pararel_pattern() -> None:
    folder = Path(os.environ.get("PARAREL_DIR", Path(__file__).parents[3] / "shared" / "pararel"))
    folder = folder / "data" / "pattern_data" / "graphs_json"
    if not folder.is_dir():
        pytest.skip("ParaRel is not here; set PARAREL_DIR to its folder")
    patterns = {
        _bare(json.loads(line)["pattern"])
        for file in folder.glob("*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    }
    assert len(patterns) > 300
    ours = {_bare(template) for relation in load_relations().values() for template in relation.templates}
    assert not ours & patterns
