"""Examples: which facts are shown, what the models say next, and that it is computed once; how a run is described."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from loud import louder, random_text

from quantcliff import cli, models
from quantcliff.diagnosis import examples as module
from quantcliff.diagnosis.examples import COLUMNS, draw, examples, words
from quantcliff.diagnosis.made import command, made
from quantcliff.quantizers import Scheme, quantize
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner


@pytest.fixture(scope="module")
def asked(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Arguments of a study at 2 bits, by next-token recall."""
    base = louder(tiny_llama, tmp_path_factory.mktemp("sure"))
    own = quantize(base, Scheme("rtn", 2, 32), (), tmp_path_factory.mktemp("quantized"))
    text, run = random_text(tmp_path_factory.mktemp("text")), tmp_path_factory.mktemp("run")
    return {"model": base, "quantized": own, "text": text, "n_facts": 60, "run": run, "seed": 3}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1, max_size=20), st.integers(0, 5))
def test_lost_answers_come_first_and_one_that_is_kept_last(facts, seed):
    kept = np.array([one for one, _ in facts])
    chosen = draw(kept, [relation for _, relation in facts], 3, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(3, len(kept))
    assert sorted(kept[chosen]) == list(kept[chosen])
    assert kept[chosen].sum() == (min(1, kept.sum()) if (~kept).sum() >= 2 else len(chosen) - (~kept).sum())
    assert draw(kept, [relation for _, relation in facts], 3, seed).tolist() == chosen.tolist()


def test_lost_answers_are_of_different_relations_where_there_are_some():
    relations = ["a"] * 30 + ["b"]
    for seed in range(10):
        assert 30 in draw(np.zeros(31, dtype=bool), relations, 3, seed)


def test_seeds_draw_different_facts():
    kept = np.arange(200) % 2 == 0
    assert len({tuple(draw(kept, ["a"] * 200, 3, seed)) for seed in range(5)}) > 1


def test_words_are_those_of_generate(tiny_llama: Path):
    model = models.load(tiny_llama)
    model.hf.generation_config.eos_token_id = None
    ids = model.tokenizer("Rome is the capital of").input_ids
    asked = torch.tensor([ids])
    whole = model.hf.generate(asked, attention_mask=torch.ones_like(asked), max_new_tokens=6, do_sample=False)[0]
    expected = [int(token) for token in whole[len(ids) :]]
    assert len(expected) == 6
    runner = Runner(models.load(tiny_llama))
    runner.model.hf.generation_config.eos_token_id = None
    assert words(runner, ids, 6) == model.tokenizer.decode(expected)
    runner.model.hf.generation_config.eos_token_id = [expected[2], 319]
    stop = expected.index(expected[2])
    assert words(runner, ids, 6) == model.tokenizer.decode(expected[:stop])


def test_examples_are_what_the_models_say_and_are_kept(asked, monkeypatch: pytest.MonkeyPatch):
    study = Study(**asked)
    label = next(iter(study.variants))
    found = examples(study, label)
    assert list(found) == COLUMNS and len(found) == 3
    right = study.known_scores(label)["rank"] == 1
    by_prompt = dict(zip(study.known.table["prompt"], right, strict=True))
    assert [by_prompt[prompt] for prompt in found["prompt"]] == found["kept"].tolist()
    assert not found["kept"].iloc[0]
    for row in found.itertuples():
        number = study.known.table["prompt"].tolist().index(row.prompt)
        assert row.full == words(study.runner(FULL), study.known.input_ids[number], 6)
        assert row.quantized == words(study.runner(label), study.known.input_ids[number], 6)
        for which, right in ((FULL, True), (label, row.kept)):
            first = int(study.runner(which).logits(torch.tensor([study.known.input_ids[number]]))[0, -1].argmax())
            assert (first in study.known.answers[number]) == right
    monkeypatch.setattr(module, "words", lambda *_: pytest.fail("asked again"))
    again = Study(**asked)
    assert examples(again, label).equals(found)
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        examples(again, label, tokens=5)


def test_a_run_is_described_so_that_it_can_be_made_again(asked):
    study = Study(**asked)
    found = made(study, next(iter(study.variants)), 60, False)
    assert found["base_hash"] == models.digest_of(asked["model"])
    assert found["quantized_hash"] == models.digest_of(asked["quantized"])
    assert set(found["versions"]) == {"quantcliff", "torch", "transformers", "Python"}
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (found["seed"], found["device"], found["dtype"]) == (3, study.parameters.device, "float32")
    narrow = Study(**asked | {"dtype": "bfloat16"})
    assert made(narrow, next(iter(narrow.variants)), 60, False)["base_hash"] == found["base_hash"]


def test_the_command_is_one_that_the_command_line_takes(asked, monkeypatch: pytest.MonkeyPatch):
    study = Study(**asked)
    got = {}

    def diagnose(base, quantized, say, **options):
        got.update(options, model=base, quantized=quantized)
        raise SystemExit(0)

    monkeypatch.setattr("quantcliff.diagnosis.diagnose", diagnose)
    first, *line = shlex.split(command(study, 60, True))
    assert first == "quantcliff"
    assert CliRunner().invoke(cli.app, line).exit_code == 0
    assert got.pop("out") == asked["run"] and got.pop("quick") is True
    assert got.pop("facts") and got.pop("device") == study.parameters.device and got.pop("dtype") == "float32"
    assert got == {
        name: value if isinstance(value, int) else str(value) for name, value in asked.items() if name != "run"
    }
