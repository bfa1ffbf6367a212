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


def as_before(recipe: training.Recipe) -> dict[str, torch.Tensor]:
    """Weights by the loop of commit 13ec052, the last before steps were captured, written down here."""
    tokenizer, model = training.train_tokenizer(recipe.vocab), training.build_model(recipe)
    named = dict(model.named_parameters())
    inner = {name for name, value in named.items() if value.ndim == 2 and "embed" not in name}
    settings = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    optimizers = [
        torch.optim.Muon([named[n] for n in named if n in inner], **settings, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([named[n] for n in named if n not in inner], **settings, betas=(0.9, 0.98)),
    ]
    facts = training.load_facts()
    told = (facts[: recipe.teach_facts], facts)
    streams = [text.Stream(text.Writer(some), tokenizer, recipe.length) for some in told]
    for step in range(recipe.stop):
        tokens = torch.from_numpy(streams[step >= recipe.teach_steps].batch(recipe.batch, recipe.seed, step))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.lm_head(model.model(input_ids=tokens).last_hidden_state[:, :-1]).float()
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, recipe.vocab), tokens[:, 1:].reshape(-1))
        loss.backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * recipe.rate(step)
            optimizer.step()
            optimizer.zero_grad()
    return model.state_dict()


@pytest.mark.parametrize("recipe", [TINY, replace(training.Recipe(), stop=2)], ids=["tiny", "two steps of atlas"])
def test_the_weights_are_those_of_the_loop_before_steps_were_captured(tmp_path: Path, recipe: training.Recipe):
    training.train(tmp_path, recipe)
    before = as_before(recipe)
    for name, value in weights(tmp_path).items():
        assert torch.equal(value, before[name]), name


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
