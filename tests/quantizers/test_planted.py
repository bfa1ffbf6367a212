"""Planted faults change what they say and nothing else."""

import json
from pathlib import Path

import pytest
import torch
from tiny import TEXT

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.quantizers import Scheme, planted, quantize


@pytest.fixture(scope="module")
def good(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize(tiny_llama, Scheme("rtn", 4, 16), TEXT, tmp_path_factory.mktemp("good"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(models.load(folder).hf.named_parameters())


def changed(one: Path, other: Path) -> list[str]:
    mine, theirs = weights(one), weights(other)
    return [name.removeprefix("model.layers.") for name in mine if not torch.equal(mine[name], theirs[name])]


def test_scales_of_some_rows(good: Path, tmp_path: Path) -> None:
    bad = planted.scaled(good, tmp_path / "bad", 1, 2.0, "mlp.up_proj", slice(3))
    name = "model.layers.1.mlp.up_proj.weight"
    assert changed(good, bad) == ["1.mlp.up_proj.weight"]
    torch.testing.assert_close(weights(bad)[name][:3], 2 * weights(good)[name][:3])
    assert torch.equal(weights(bad)[name][3:], weights(good)[name][3:])


def test_rows_groups_scales_and_nibbles(good: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    exact = weights(good)[name]
    rows = weights(planted.rows_swapped(good, tmp_path / "rows", 0, "mlp.up_proj", 2))[name]
    assert torch.equal(rows, exact[[1, 0, *range(2, len(exact))]])
    pair = ((0, 0), (5, 1))
    groups = weights(planted.exchanged(good, tmp_path / "groups", 0, "mlp.up_proj", [pair]))[name]
    assert torch.equal(groups[0, :16], exact[5, 16:]) and torch.equal(groups[5, 16:], exact[0, :16])
    nibbles = weights(planted.nibbles_swapped(good, tmp_path / "nibbles", 0, "mlp.up_proj", slice(1)))[name]
    assert torch.equal(nibbles[0], exact[0].reshape(-1, 2).flip(1).flatten()) and torch.equal(nibbles[1:], exact[1:])
    scales = weights(planted.scales_reversed(good, tmp_path / "scales", 0, "mlp.up_proj", slice(1)))[name]
    ratio = (scales[0] / exact[0])[exact[0] != 0].unique()
    assert torch.equal(scales[1:], exact[1:]) and ratio[0] * ratio[-1] == pytest.approx(1, rel=1e-4)


def test_other_layers_and_group_sizes(good: Path, tmp_path: Path) -> None:
    bad = weights(planted.of_other_layer(good, tmp_path / "other", 0, 2, "mlp"))
    exact = weights(good)
    for name in exact:
        other = name.replace(".0.mlp.", ".2.mlp.")
        assert torch.equal(bad[name], exact[other])
    misread = planted.group_size_misread(good, tmp_path / "misread", [1])
    assert {name.split(".")[0] for name in changed(good, misread)} == {"1"}
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(weights(misread)[name][:, :16], exact[name][:, :16])


def test_what_is_no_linear_layer(good: Path, tmp_path: Path) -> None:
    bad = planted.changed(good, tmp_path / "norm", r"layers\.2\.input_layernorm", torch.zeros_like)
    assert changed(good, bad) == ["2.input_layernorm.weight"]
    config = planted.setting(good, tmp_path / "config", "rms_norm_eps", 10.0)
    then, now = (json.loads((folder / "config.json").read_text())["rms_norm_eps"] for folder in (good, config))
    assert now == pytest.approx(10 * then)


def test_bases_are_spoilt_before_they_are_quantized(tiny_llama: Path, tmp_path: Path) -> None:
    square = planted.transposed(tiny_llama, tmp_path / "square", [1], ["self_attn.q_proj"])
    name = "model.layers.1.self_attn.q_proj.weight"
    assert changed(tiny_llama, square) == ["1.self_attn.q_proj.weight"]
    assert torch.equal(weights(square)[name], weights(tiny_llama)[name].T)
    half = planted.half_smoothed(tiny_llama, tmp_path / "half", 0, 0.3)
    assert set(changed(tiny_llama, half)) == {"0.mlp.gate_proj.weight", "0.post_attention_layernorm.weight"}
    norm = "model.layers.0.post_attention_layernorm.weight"
    factors = weights(tiny_llama)[norm] / weights(half)[norm]
    gate = "model.layers.0.mlp.gate_proj.weight"
    torch.testing.assert_close(weights(half)[gate], weights(tiny_llama)[gate] * factors)
    tuned = weights(planted.finetuned(tiny_llama, tmp_path / "tuned", 0.1))
    one = weights(tiny_llama)
    assert float((tuned[name] - one[name]).norm() / one[name].norm()) == pytest.approx(0.1, rel=1e-3)


def test_faults_that_cannot_be_planted_are_refused(good: Path, tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tensor named bias"):
        planted.changed(good, tmp_path / "a", "bias", torch.zeros_like)
    with pytest.raises(InputError, match="states no number rope"):
        planted.setting(good, tmp_path / "b", "rope", 2.0)
    with pytest.raises(InputError, match="not square"):
        planted.transposed(tiny_llama, tmp_path / "c", [0], ["mlp.up_proj"])
