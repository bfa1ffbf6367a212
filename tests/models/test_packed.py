"""GPTQ and AWQ files are plain models: their weights are those that were packed by hand, bit by bit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import wrapped
from packing import GROUP, Packed, awq, folder_of, gptq, repack
from safetensors.torch import load_file, save_file

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.filecheck import inspect

STATED = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False,
          "checkpoint_format": "gptq"}  # fmt: skip


def groups(columns: int, size: int = GROUP) -> np.ndarray:
    return np.arange(columns) // size


def held(folder: Path, expected: dict[str, np.ndarray]) -> bool:
    """Whether a model loaded from the folder holds these numbers (out, in), by parameter, and all else its base's."""
    weights = dict(models.load(folder).hf.named_parameters())
    return all(np.allclose(weights[name].numpy(), numbers, atol=1e-6) for name, numbers in expected.items())


@pytest.mark.parametrize("format_", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq(tmp_path: Path, bits: int, act_order: bool, format_: str) -> None:
    expected, draw, folder = {}, np.random.default_rng(0), folder_of("llama", tmp_path / "packed")

    def pack(name: str, weight: torch.Tensor) -> Packed:
        order = draw.permutation(weight.shape[1]) if act_order else np.arange(weight.shape[1])
        expected[name], parts = gptq(weight, bits, order // GROUP, format_ == "gptq")
        return parts

    repack(folder, STATED | {"bits": bits, "desc_act": act_order, "checkpoint_format": format_}, pack)
    assert len(expected) == 21 and held(folder, expected)
    stated = models.grid_of(folder)
    assert stated and (stated["format"], stated["bits"], stated["mixed"]) == ("gptq", bits, False)


def test_a_file_without_order_and_format_is_of_the_first_layout(tmp_path: Path) -> None:
    expected, folder = {}, folder_of("llama", tmp_path / "packed")

    def pack(name: str, weight: torch.Tensor) -> Packed:
        expected[name], parts = gptq(weight, 4, groups(weight.shape[1]), True)
        return {part: tensor for part, tensor in parts.items() if part != "g_idx"}

    repack(folder, {key: value for key, value in STATED.items() if key != "checkpoint_format"}, pack)
    assert held(folder, expected)


def test_modules_of_their_own_bits_and_modules_left_alone(tmp_path: Path) -> None:
    """As GPTQModel's `dynamic` makes them."""
    base, expected = wrapped("llama"), {}
    folder = folder_of("llama", tmp_path / "packed")

    def pack(name: str, weight: torch.Tensor) -> Packed | None:
        if ".v_proj" in name:
            return None
        bits, size = (3, GROUP) if ".1.mlp" in name else (8, 16) if "down_proj" in name else (4, GROUP)
        expected[name], parts = gptq(weight, bits, groups(weight.shape[1], size), True)
        return parts

    own = {"-:.*v_proj": {}, r"+:.*\.1\.mlp.*": {"bits": 3}, ".*down_proj": {"bits": 8, "group_size": 16}}
    repack(folder, STATED | {"dynamic": own}, pack)
    assert len(expected) == 18 and held(folder, expected)
    stated = models.grid_of(folder)
    assert stated and stated["bits"] == 3 and stated["mixed"]
    table = inspect(base, models.load(folder), stated)
    assert (table["fault"] == "").all()
    found = table.set_index(["layer", "module"])["stored_bits"]
    assert found[0, "mlp.down_proj"] == 8 and found[1, "mlp.down_proj"] == 3 and found[0, "self_attn.q_proj"] == 4


def test_gpt2_whose_matrices_lie_on_their_side(tmp_path: Path) -> None:
    expected, folder = {}, folder_of("gpt2", tmp_path / "packed")

    def pack(name: str, weight: torch.Tensor) -> Packed:
        expected[name], parts = gptq(weight, 4, groups(weight.shape[1]), True)
        return parts

    repack(folder, STATED, pack)
    assert len(expected) == 12 and held(folder, expected)


@pytest.mark.parametrize("name", ["qwen3-moe", "mixtral"])
def test_experts_are_stacked(tmp_path: Path, name: str) -> None:
    expected, folder = {}, folder_of(name, tmp_path / "packed")

    def pack(key: str, weight: torch.Tensor) -> Packed:
        expected[key], parts = gptq(weight, 4, groups(weight.shape[1]), True)
        return parts

    repack(folder, STATED, pack)
    hf = models.load(folder).hf
    down = "down_proj" if name == "qwen3-moe" else "w2"
    stack = hf.get_submodule("model.layers.2.mlp.experts").down_proj
    for key in [key for key in expected if ".2." in key and f"experts.3.{down}" in key]:
        assert np.allclose(stack[3].numpy(), expected[key], atol=1e-6)
    assert sum(".experts." in key for key in expected) == 36
    assert held(folder, {key: numbers for key, numbers in expected.items() if ".experts." not in key})


@pytest.mark.parametrize("zero_points", [True, False])
def test_awq(tmp_path: Path, zero_points: bool) -> None:
    expected, folder = {}, folder_of("llama", tmp_path / "packed")

    def pack(name: str, weight: torch.Tensor) -> Packed | None:
        if ".o_proj" in name:
            return None
        expected[name], parts = awq(weight, zero_points)
        return parts

    stated = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": zero_points, "version": "GEMM",
              "modules_to_not_convert": ["o_proj"]}  # fmt: skip
    repack(folder, stated, pack)
    assert len(expected) == 18 and held(folder, expected)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (STATED | {"checkpoint_format": "marlin"}, "packs its GPTQ weights as 'marlin'; only gptq and gptq_v2 can"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "packs its AWQ weights as 'gemv'; only gemm can"),
        ({"quant_method": "awq", "bits": 8, "version": "gemm"}, "AWQ weights of 8 bits; only 4"),
    ],
)
def test_other_layouts_are_refused_by_name(tmp_path: Path, stated: dict, message: str) -> None:
    folder = folder_of("llama", tmp_path / "packed")
    repack(folder, stated, lambda name, weight: awq(weight)[1])
    for look in (models.load, models.grid_of):
        with pytest.raises(InputError, match=message):
            look(folder)


@pytest.mark.parametrize("part", ["scales", "qzeros", "qweight"])
def test_tensors_that_do_not_fit_each_other(tmp_path: Path, part: str) -> None:
    folder = folder_of("llama", tmp_path / "packed")
    repack(folder, STATED, lambda name, weight: gptq(weight, 4, groups(weight.shape[1]), True)[1])
    weights = load_file(folder / "model.safetensors")
    key = f"model.layers.1.mlp.up_proj.{part}"
    weights[key] = weights[key][:, :3].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"packed tensors of model\.layers\.1\.mlp\.up_proj do not fit"):
        models.load(folder)
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError):
        models.load(folder)


def test_a_packed_head(tmp_path: Path) -> None:
    folder = folder_of("llama", tmp_path / "packed")
    repack(folder, STATED, lambda name, weight: gptq(weight, 4, groups(weight.shape[1]), True)[1])
    weights = load_file(folder / "model.safetensors")
    expected, parts = gptq(weights.pop("lm_head.weight"), 4, groups(32), True)
    weights |= {f"lm_head.{part}": tensor for part, tensor in parts.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    assert held(folder, {"lm_head.weight": expected})
