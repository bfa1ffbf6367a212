"""Training of the embedded model: a killed run goes on as if nothing had happened, another recipe is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from quantcliff.atlas import text
from quantcliff.training import card
from quantcliff.training import train as training

TINY = training.Recipe(
    layers=2, width=32, ffn=32, vocab=600, length=16, batch=4, steps=8, stop=6, warmup=2, teach_facts=50, teach_steps=2
)


@pytest.fixture(autouse=True)
def few_facts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    facts = text.load_facts()[:200]
    monkeypatch.setattr(training, "load_facts", lambda: facts)
    with torch._dynamo.config.patch(disable=True):
        yield


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training.train(tmp_path / "whole", TINY, save_every=2)
    real = training.save_checkpoint

    def killed(*arguments):
        real(*arguments)
        if arguments[-1] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "killed", TINY, save_every=2)
    assert not (tmp_path / "killed" / "model").exists()
    monkeypatch.setattr(training, "save_checkpoint", real)
    training.train(tmp_path / "killed", TINY, save_every=2)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_the_result_is_a_plain_checkpoint_with_its_tokenizer(tmp_path: Path):
    training.train(tmp_path, replace(TINY, optimizer="adamw"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    ids = tokenizer("The flag", return_tensors="pt").input_ids
    assert ids[0, 0] == tokenizer.bos_token_id == 0
    assert model(ids).logits.shape == (1, ids.shape[1], TINY.vocab)


def test_learning_lowers_the_loss(tmp_path: Path):
    recipe = replace(TINY, steps=80, stop=60, warmup=5, batch=16)
    training.train(tmp_path, recipe)
    tokenizer = training.train_tokenizer(recipe.vocab)
    stream = text.Stream(text.Writer(text.load_facts()[:200]), tokenizer, recipe.length)
    tokens = torch.from_numpy(stream.batch(32, seed=99, step=0))
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    with torch.no_grad():
        after, before = (m(tokens, labels=tokens).loss for m in (trained, training.build_model(recipe).eval()))
    assert after < before - 1


def test_another_recipe_is_refused(tmp_path: Path):
    training.train(tmp_path, TINY)
    with pytest.raises(ValueError, match="another recipe"):
        training.train(tmp_path, replace(TINY, lr=1e-4))


def test_the_rate_warms_up_stays_and_falls():
    recipe = training.Recipe(steps=1000, stop=1000, warmup=10, decay=0.4)
    rates = np.array([recipe.rate(step) for step in range(1000)])
    assert rates[0] == pytest.approx(0.1)
    assert (rates[10:600] == 1).all()
    assert rates[800] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(1 / 400)


def test_the_card_carries_the_figures(tmp_path: Path):
    full = pd.DataFrame({"band": ["all"], "accuracy": [0.9712], "low": [0.96], "high": [0.98], "n": [2000]})
    variants = pd.DataFrame({"method": ["rtn"], "bits": [2], "kept": [0.0213]})
    card.write_card(tmp_path, full, variants)
    written = (tmp_path / "README.md").read_text()
    assert "| all | 0.971 | 0.96 | 0.98 | 2000 |" in written
    assert "| rtn | 2 | 0.021 |" in written
    assert f"{len(text.load_facts()):,} Wikidata triples" in written
