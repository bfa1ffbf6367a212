"""What tests has no subject in common with what chooses or calibrates; mixtures are equal in tokens."""

from itertools import islice

import numpy as np
import pytest

from quantcliff.atlas import load_facts
from quantcliff.stages.mixture import texts
from quantcliff.stages.mixture.texts import CHOOSING, TESTING, Sizes, blend, chooses, half_of
from quantcliff.study import Study

SIZES = Sizes(facts=60, pieces=40, copies=4, tested=70, tested_pieces=30, tested_copies=4, tokens=900)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study("atlas", method="rtn", bits="3", n_facts=300, run=tmp_path_factory.mktemp("run"))


def test_halves_share_no_subject(study: Study) -> None:
    one, other = (half_of(study, name, SIZES) for name in (CHOOSING, TESTING))
    assert len(one.facts) == 60 and len(other.facts) == 70 and len(one.pieces) == 40 and len(other.pieces) == 30
    assert set(one.facts.table["subject"].map(chooses)) == {True}
    assert set(other.facts.table["subject"].map(chooses)) == {False}
    assert not len(one.copies), "the embedded model does not copy"
    assert 0.4 < np.mean([chooses(fact.subject) for fact in load_facts()]) < 0.6


def test_no_text_that_calibrates_names_a_subject_that_tests(study: Study) -> None:
    said = " ".join(blend(study, 0.5, 3000)) + " ".join(islice(texts.documents(study, CHOOSING), 200))
    testing = {fact.subject for fact in load_facts() if not chooses(fact.subject) and len(fact.subject) > 12}
    choosing = {fact.subject for fact in load_facts() if chooses(fact.subject) and len(fact.subject) > 12}
    named = [subject for subject in testing if subject in said and not any(subject in own for own in choosing)]
    assert not named
    assert sum(subject in said for subject in choosing) > 100


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_mixtures_have_equally_many_tokens(study: Study, alpha: float) -> None:
    tokenizer = study.base.tokenizer
    documents = blend(study, alpha, 900)
    counts = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in documents]
    assert sum(counts) == pytest.approx(900, abs=4)
    prompts = [f"{row.prompt} {row.object.split(' | ')[0]}." for row in study.probes.table.itertuples()]
    task = [count for text, count in zip(documents, counts, strict=True) if text in prompts]
    assert sum(task) == pytest.approx((1 - alpha) * 900, abs=25)
    assert blend(study, alpha, 900) == documents and (blend(study, alpha, 900, 1) != documents)


def test_pieces_are_cut_and_never_of_one_token() -> None:
    cut = texts.pieces_of([[*range(130)], [5], [*range(64)]], 10)
    assert [len(piece) for piece in cut] == [64, 64, 2, 64]
    assert len(texts.pieces_of([[*range(130)]], 2)) == 2


def test_copies_are_read_twice() -> None:
    rows = texts.copies([[*range(9, 60)], [0, 1]], [0], 5, 0)
    assert rows.shape == (5, 1 + 2 * texts.COPIED)
    for row in rows.tolist():
        first, second = row[1 : 1 + texts.COPIED], row[1 + texts.COPIED :]
        assert row[0] == 0 and first == second and len(set(first)) == texts.COPIED and 0 not in first
