"""Recall probes: every prompt is one full precision is sure about, and its answer is what it would say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from loud import louder, random_text

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.probes.recall import FEWEST_TOKENS, _evenly, _pieces, documents, recall
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, score


@pytest.fixture(scope="module")
def sure(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return louder(tiny_llama, tmp_path_factory.mktemp("sure"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_text(tmp_path_factory.mktemp("text"))


def test_full_precision_is_right_and_sure_at_every_position(sure: Path, text: Path) -> None:
    model = models.load(sure)
    probes = recall(model, text, n=60)
    assert len(probes) == 60
    found = score(Runner(models.load(sure)), probes)
    assert (found["rank"] == 1).all()
    assert (found["probability"] >= 0.5 - 1e-5).all()
    assert (probes.subject == -1).all()
    assert set(probes.table["relation"]) == {"text"}
    assert probes.table["band"].isna().all()


def test_prompts_are_pieces_of_the_text_of_bounded_length(sure: Path, text: Path) -> None:
    model = models.load(sure)
    probes = recall(model, text, n=80, context=20)
    bos = model.tokenizer.bos_token_id
    known = [model.tokenizer(part).input_ids[1:] for part in documents(text)]
    pieces = [part[start : start + 20] for part in known for start in range(0, len(part), 20)]
    for ids in probes.input_ids:
        assert ids[0] == bos
        assert FEWEST_TOKENS <= len(ids) - 1 <= 20
        assert any(piece[: len(ids) - 1] == ids[1:] for piece in pieces)
    assert probes.dropped["reason"].tolist() == [f"fewer than {FEWEST_TOKENS} tokens"]


def test_a_higher_bar_leaves_only_surer_positions(sure: Path, text: Path) -> None:
    model, runner = models.load(sure), Runner(models.load(sure))
    assert (score(runner, recall(model, text, n=1000, min_probability=0.9))["probability"] >= 0.9 - 1e-5).all()


def test_the_draw_is_seeded_and_no_answer_is_more_frequent_than_it_must_be(sure: Path, text: Path) -> None:
    model = models.load(sure)
    assert recall(model, text, n=40).digest == recall(model, text, n=40).digest
    assert recall(model, text, n=40).digest != recall(model, text, n=40, seed=1).digest
    answers = np.array([7] * 50 + [3] * 4 + [5])
    for seed in range(5):
        drawn = answers[_evenly(answers, 10, seed)]
        assert [int((drawn == answer).sum()) for answer in (7, 3, 5)] == [5, 4, 1]
    assert not np.array_equal(_evenly(answers, 10, 0), _evenly(answers, 10, 1))


def test_positions_are_drawn_from_more_of_the_text_than_would_do(
    sure: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantcliff.probes.recall.NUMBERS_AT_ONCE", 1)
    model = models.load(sure)

    def pieces(n: int, seed: int) -> set[tuple[int, ...]]:
        drawn = recall(model, text, n=n, min_probability=0.01, context=20, seed=seed).input_ids
        return {tuple(ids[: FEWEST_TOKENS + 1]) for ids in drawn}

    assert len(pieces(30, 0)) > 5, "a piece has 13 positions at most, so that 3 would do"
    assert len(set().union(*(pieces(5, seed) for seed in range(8)))) > 5, "other pieces with another seed"


def test_special_and_blank_tokens_are_no_answers(sure: Path, text: Path) -> None:
    model = models.load(sure)
    everything = recall(model, text, n=10_000, min_probability=0.01, context=20)
    assert {len(ids) - 1 for ids in everything.input_ids} == set(range(FEWEST_TOKENS, 21))
    answers = {answer for row in everything.answers for answer in row}
    assert not answers & set(model.tokenizer.all_special_ids)
    assert all(model.tokenizer.decode([answer]).strip() for answer in answers)
    assert not everything.table["prompt"].str.contains("<s>").any()
    head, (special,), often = model.hf.lm_head.weight, model.tokenizer.all_special_ids, everything.answers[0][0]
    with torch.no_grad():
        head[[special, often]] = head[[often, special]]
    assert [special] not in recall(model, text, n=10_000, min_probability=0.01, context=20).answers


def test_a_document_needs_one_prompts_worth_of_tokens(sure: Path) -> None:
    tokenizer = models.load(sure).tokenizer
    pieces, dropped = _pieces(tokenizer, [" ".join(["the"] * n) for n in (7, 8, 9, 28, 29)], 20)
    assert [len(ids) - lead for ids, lead in pieces] == [8, 9, 20, 8, 20, 9]
    assert len(dropped) == 1


def test_enough_positions_are_exactly_enough(sure: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(sure)
    n = len(recall(model, text, n=10_000, context=FEWEST_TOKENS))
    monkeypatch.setattr("quantcliff.probes.recall.FEWEST_POSITIONS", n)
    assert len(recall(model, text, n=10_000, context=FEWEST_TOKENS)) == n
    monkeypatch.setattr("quantcliff.probes.recall.FEWEST_POSITIONS", n + 1)
    with pytest.raises(InputError, match=f"at only {n} positions"):
        recall(model, text, n=10_000, context=FEWEST_TOKENS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no text file"),
        (" \n\n ", "is empty"),
        ("Rome is the capital of Italy and of much besides.", r"confident .* at only \d+ positions"),
    ],
)
def test_a_text_that_cannot_be_used(sure: Path, tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=words):
        recall(models.load(sure), file, n=10)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 5, "min_probability": 0.0}, {"n": 5, "context": 3}])
def test_numbers_out_of_range(sure: Path, text: Path, wrong: dict) -> None:
    with pytest.raises(InputError, match="give at least 1"):
        recall(models.load(sure), text, **wrong)


def test_a_study_of_a_text(sure: Path, text: Path, tmp_path: Path) -> None:
    study = Study(sure, method="rtn", bits=2, group_size=16, text=text, n_facts=50, run=tmp_path)
    assert len(study.known) == len(study.probes) == 50
    assert (study.scores(FULL)["rank"] == 1).all()
    assert (study.scores("rtn-2bit-g16")["rank"] > 1).any()


def test_lines_are_documents_where_there_is_no_blank_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("one\ntwo\n")
    assert documents(file) == ["one", "two"]
    file.write_text("one\nstill one\n\ntwo\n")
    assert documents(file) == ["one\nstill one", "two"]
