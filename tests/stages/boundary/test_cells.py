"""The grid holds what it says, 2.5 bits are half of the weights, and the other text is as long as the usual one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_answers import OwnAnswers
from tiny import TEXT, tiny_tokenizer

from quantcliff import models, quantizers
from quantcliff.models import config_of, layer_of, linears
from quantcliff.stages.boundary import Cell, atlas_grid, between_grid, made, smollm2_grid
from quantcliff.stages.boundary.cells import BETWEEN, calibration, checkpoint
from quantcliff.stages.boundary.texts import LONGEST, batches_of, out_of_distribution, read_first
from quantcliff.study import Study


@pytest.fixture
def study(tiny_llama: Path, tmp_path: Path) -> Study:
    return OwnAnswers(tiny_llama, method="rtn", bits="3", group_size=16, run=tmp_path / "run")


def test_the_grid_is_as_large_as_promised() -> None:
    atlas, real = atlas_grid(), smollm2_grid()
    assert len(atlas) == 144 and len(real) == 12
    assert len({cell.label for cell in atlas}) == 144 and len({cell.label for cell in real}) == 12
    assert Counter(cell.bits for cell in atlas) == dict.fromkeys((4.0, 3.0, 2.5, 2.0), 36)
    assert Counter(cell.method for cell in atlas) == {"rtn": 16, "gptq": 96, "awq": 32}
    assert {cell.calibration for cell in atlas if cell.method == "rtn"} == {"in"}
    assert {cell.damping for cell in atlas if cell.method != "gptq"} == {0.01}
    composed = [cell.label for cell in real if cell.composed]
    assert composed == ["gptq-2.5bit-g64-d0.01", "awq-2.5bit-g64", "rtn-2.5bit-g64"]
    added = between_grid()
    assert len(added) == 24 and {cell.bits for cell in added} == set(BETWEEN) and not set(added) & set(atlas)
    assert Cell("atlas", "gptq", 2.5, -1, 0.1, "out").label == "gptq-2.5bit-row-d0.1-out"


def test_two_and_a_half_bits_are_half_of_the_weights() -> None:
    config = config_of("atlas")
    shapes, scheme = linears(config), Cell("atlas", "rtn", 2.5, 64).scheme(8)
    plan = scheme.plan(config)
    sizes = Counter()
    for name, bits in plan.items():
        assert bits == (2 if layer_of(name) % 2 else 3)
        sizes[bits] += shapes[name][0] * shapes[name][1]
    assert sizes[2] == sizes[3] and set(plan) == set(shapes)
    assert Cell("atlas", "gptq", 3.0, 64, 0.1).scheme(8) == quantizers.Scheme("gptq", 3, 64, damping=0.1)
    lowered = {bits: [layer for layer, _ in Cell("atlas", "rtn", bits, 64).scheme(8).bits_by_layer] for bits in BETWEEN}
    assert lowered == {2.875: [1], 2.75: [1, 3], 2.625: [1, 3, 5]}
    assert quantizers.average_bits(config, scheme) == pytest.approx(2.5 + (16 + 2.5) / 64)


def test_a_checkpoint_of_two_widths_is_stored_as_such(study: Study) -> None:
    cell = Cell("tiny", "rtn", 2.5, 16)
    stated = models.stated_of(checkpoint(study, cell))["config_groups"]
    found = {name: group["weights"]["num_bits"] for group in stated.values() for name in group["targets"]}
    assert found == cell.scheme(3).plan(study.base.hf.config)
    own = made(study, cell)
    for name in linears(study.base.hf.config):
        groups = own.hf.get_submodule(name).weight.reshape(-1, 16)
        levels = max(len(row.unique()) for row in groups)
        assert levels <= (4 if layer_of(name) % 2 else 8)


def test_a_composed_model_takes_each_layer_from_its_width(study: Study) -> None:
    cell = Cell("tiny", "rtn", 2.5, 16, composed=True)
    whole = {bits: made(study, replace(cell, bits=bits, composed=False)).hf.state_dict() for bits in (2.0, 3.0)}
    for name, weight in made(study, cell).hf.state_dict().items():
        odd = models.LAYER.search(name) and layer_of(name) % 2 == 1
        assert torch.equal(weight, whole[2.0 if odd else 3.0][name]), name
    one = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(whole[2.0][one], whole[3.0][one])
    direct = made(study, replace(cell, composed=False)).hf.state_dict()
    composed = made(study, cell).hf.state_dict()
    assert all(torch.equal(direct[name], composed[name]) for name in direct), "plain rounding knows no other layers"


def test_the_other_text_differs_in_kind_and_not_in_size() -> None:
    tokenizer = models.tokenizer_of(models.folder_of("atlas"))
    usual = quantizers.calibration_text("atlas")
    other = out_of_distribution(tokenizer, usual)
    sizes = [np.array([len(tokenizer(text).input_ids) for text in texts]) for texts in (usual, other)]
    assert len(other) == len(usual) and not set(other) & set(usual)
    assert abs(sizes[1].sum() / sizes[0].sum() - 1) < 0.02 and np.abs(sizes[1] - sizes[0]).max() <= 4
    assert other == out_of_distribution(tokenizer, usual) and "expression" in " ".join(other)


def test_cells_are_calibrated_on_their_own_text(tiny_llama: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXT))
    study = OwnAnswers(tiny_llama, method="gptq", bits="3", group_size=16, run=tmp_path / "run", calibration=text)
    usual = calibration(study, Cell("tiny", "gptq", 3.0, 16))
    assert usual == TEXT and calibration(study, Cell("tiny", "rtn", 3.0, 16)) == []
    assert calibration(study, Cell("tiny", "gptq", 3.0, 16, 0.01, "out")) == out_of_distribution(
        study.base.tokenizer, TEXT
    )


def test_a_text_is_read_from_its_start_and_no_further_than_asked() -> None:
    tokenizer = tiny_tokenizer()
    assert read_first(tokenizer, TEXT, tokens=10_000) == TEXT
    some = read_first(tokenizer, TEXT, tokens=12)
    assert some == TEXT[: len(some)] and 0 < len(some) < len(TEXT)
    assert sum(len(tokenizer(text).input_ids) for text in some) >= 12
    assert read_first(tokenizer, ["", TEXT[0]], tokens=12) == [TEXT[0]]
    long = [" ".join(TEXT * 20)]
    (batch,) = batches_of(tokenizer, long)
    assert batch.shape == (1, LONGEST) and batches_of(tokenizer, [""]) == []
