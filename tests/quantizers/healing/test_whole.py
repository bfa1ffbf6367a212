"""Scales trained end to end: codes stay, the loss on text falls, a killed run goes on and ends with the same bytes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TEXT

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.quantizers import Scheme, quantize
from quantcliff.quantizers.healing import (
    WHOLE_REPORT,
    EndToEnd,
    Recipe,
    end_to_end,
    heal,
    heal_whole,
    rows_of,
    stored,
)
from quantcliff.quantizers.healing import whole as module

SMALL = EndToEnd(epochs=3, batch=8, lr=0.02)
SIZES = {"tokens": 16, "sequences": 40}


@pytest.fixture(scope="module")
def rounded(tiny_neox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize(tiny_neox, Scheme("rtn", 2, 16), (), tmp_path_factory.mktemp("rounded"))


@pytest.fixture(scope="module")
def trained(rounded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return end_to_end(rounded, TEXT * 8, tmp_path_factory.mktemp("trained") / "out", SMALL, **SIZES)


def loss_on(folder: Path, ids: torch.Tensor) -> float:
    with torch.no_grad():
        return float(models.load(folder).hf(ids, labels=ids).loss)


def test_codes_stay_and_scales_move(rounded: Path, trained: Path) -> None:
    before, after = stored.read(rounded), stored.read(trained)
    assert before.keys() == after.keys()
    assert all(torch.equal(one.codes, before[name].codes) for name, one in after.items())
    assert all(torch.equal(one.zero, before[name].zero) for name, one in after.items())
    assert all(not torch.equal(one.scale, before[name].scale) for name, one in after.items())


def test_the_loss_is_that_of_plain_transformers_on_sequences_not_trained_on(rounded: Path, trained: Path) -> None:
    course = json.loads((trained / WHOLE_REPORT).read_text())["course"]
    held = rows_of(models.tokenizer_of(rounded), TEXT * 8, 16, 40)[-2:]
    assert [row["epoch"] for row in course] == [0, 1, 2, 3]
    assert course[0]["loss"] == pytest.approx(loss_on(rounded, held), rel=1e-4)
    (kept,) = [row for row in course if row["kept"]]
    assert kept["loss"] == min(row["loss"] for row in course) == pytest.approx(loss_on(trained, held), rel=1e-3)
    assert kept["loss"] < course[0]["loss"]


def test_a_step_follows_the_slope_and_is_clipped(rounded: Path) -> None:
    """Adam's first step is the rate, downhill, whatever the size of the slope; the clip sees the whole gradient."""
    model = models.load(rounded)
    ids = rows_of(model.tokenizer, TEXT * 8, 16, 40)
    run = module._Run(model.hf, stored.read(rounded), ids, SMALL)
    rows = torch.arange(8)
    run._loss(rows, {name: grid() for name, grid in run.grids.items()}).backward()
    slopes = [factor.grad.clone() for factor in run.factors if factor.grad is not None]
    assert len(slopes) == len(run.factors)
    run._step(rows, 0.0)
    norm = torch.sqrt(sum(slope.square().sum() for slope in slopes))
    for factor, slope in zip(run.factors, slopes, strict=True):
        plain = slope.abs() * SMALL.clip / norm > 1e-6
        torch.testing.assert_close((1 - factor.detach())[plain], SMALL.lr * slope.sign()[plain], rtol=0.05, atol=0)
        torch.testing.assert_close(factor.grad, slope * min(1.0, SMALL.clip / float(norm)), rtol=1e-4, atol=1e-9)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    rounded: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, steps = module._Run._step, []

    def killed(self, rows, done):
        steps.append(done)
        if len(steps) == 8:
            raise KeyboardInterrupt
        whole(self, rows, done)

    monkeypatch.setattr(module._Run, "_step", killed)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        end_to_end(rounded, TEXT * 8, out, SMALL, **SIZES)
    assert not out.exists() and out.with_name("out.scales").is_file()
    with pytest.raises(InputError, match="holds scales of another run"):
        end_to_end(rounded, TEXT * 8, out, replace(SMALL, seed=1), **SIZES)
    end_to_end(rounded, TEXT * 8, out, SMALL, **SIZES)
    assert steps[8] == steps[5]
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert (out / WHOLE_REPORT).read_bytes() == (trained / WHOLE_REPORT).read_bytes()
    assert not out.with_name("out.scales").exists()


def test_training_that_does_harm_keeps_what_was_there(
    rounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(module._Run, "_judge", lambda self: next(losses))
    out = end_to_end(rounded, TEXT * 8, tmp_path / "out", replace(SMALL, epochs=2), **SIZES)
    course = json.loads((out / WHOLE_REPORT).read_text())["course"]
    assert [row["kept"] for row in course] == [1, 0, 0]
    assert (out / "model.safetensors").read_bytes() == (rounded / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [(EndToEnd(epochs=0), "epochs is 0"), (EndToEnd(lr=0.0), "rate is 0.0"), (EndToEnd(clip=-1.0), "clip -1.0")],
)
def test_recipes_that_cannot_be(rounded: Path, tmp_path: Path, recipe: EndToEnd, words: str) -> None:
    with pytest.raises(InputError, match=words):
        end_to_end(rounded, TEXT, tmp_path / "out", recipe)


def test_a_model_without_a_grid(tiny_neox: Path, rounded: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not quantized"):
        end_to_end(tiny_neox, TEXT, tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        end_to_end(rounded, TEXT, tmp_path)


def test_both_phases_are_one_after_the_other_and_go_on_between_them(
    tiny_neox: Path, rounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, then = Recipe(epochs=1, batch=8), replace(SMALL, epochs=1)
    first = heal(tiny_neox, rounded, TEXT * 8, tmp_path / "first", recipe, **SIZES)
    expected = end_to_end(first, TEXT * 8, tmp_path / "expected", then, **SIZES)

    def dies(*given, **named):
        raise KeyboardInterrupt

    out, whole = tmp_path / "out", module.end_to_end
    monkeypatch.setattr(module, "end_to_end", dies)
    with pytest.raises(KeyboardInterrupt):
        heal_whole(tiny_neox, rounded, TEXT * 8, out, recipe, then, **SIZES)
    monkeypatch.setattr(module, "end_to_end", whole)
    monkeypatch.setattr(module, "heal", dies)
    with pytest.raises(InputError, match="holds layers of another run"):
        heal_whole(tiny_neox, rounded, TEXT * 8, out, replace(recipe, seed=1), then, **SIZES)
    heal_whole(tiny_neox, rounded, TEXT * 8, out, recipe, then, **SIZES)
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert not out.with_name("out.layers").exists()
