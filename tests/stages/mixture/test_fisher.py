"""The information is the mean squared gradient, and what it foretells is right for small steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff.stages.mixture import fisher, texts
from quantcliff.stages.mixture.sensitivity import Subject
from quantcliff.stages.mixture.texts import Sizes

NAME = "model.layers.1.mlp.down_proj"


@pytest.fixture
def subject(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr(texts, "running_text", lambda study: TEXT)
    study = OwnAnswers(tiny_llama, method="rtn", bits="3", group_size=16, run=tmp_path / "run")
    return Subject(study, Sizes(6, 3, 2, 6, 3, 2, 100), "rtn", options=(2, 4))


@pytest.mark.parametrize("signal", ["facts", "text"])
def test_gradients_are_squared_one_by_one(subject: Subject, signal: str) -> None:
    found, half, hf = fisher.information(subject, signal)[NAME], subject.choosing, subject.study.base.hf
    weight = hf.get_submodule(NAME).weight
    total = torch.zeros_like(weight)
    asked = half.facts.input_ids if signal == "facts" else half.pieces
    for row, ids in enumerate(asked):
        hf.zero_grad()
        with torch.enable_grad():
            weight.requires_grad_(True)
            logits = hf(torch.tensor([ids])).logits[0]
            log = torch.log_softmax(logits, -1)
            if signal == "facts":
                loss = -log[-1, half.facts.answers[row][0]]
            else:
                loss = -log[range(len(ids) - 1), ids[1:]].sum()
            loss.backward()
        total += weight.grad**2
    count = len(asked) if signal == "facts" else sum(len(ids) - 1 for ids in asked)
    assert torch.allclose(found, total / count, rtol=1e-3, atol=1e-9)


def test_damage_is_half_of_information_times_the_step_squared(subject: Subject) -> None:
    found = fisher.damage(subject)["facts"]
    place = list(subject.units).index("1.down_proj")
    squares, exact = fisher.information(subject, "facts")[NAME], subject.study.base.hf.get_submodule(NAME).weight
    for column, bits in enumerate((2, 4)):
        step = subject.uniform(bits)[NAME] - exact
        assert found[place, column] == pytest.approx(float((squares * step**2).sum()) / 2, rel=1e-4)
    assert found.shape == (len(subject.units), 2) and (found[:, 0] > found[:, 1]).all() and np.isfinite(found).all()
