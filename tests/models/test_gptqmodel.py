"""GPTQ and AWQ checkpoints as published, beside bytes written by hand; needs the extra gptqmodel (`make extras`)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import wrapped
from safetensors.torch import load_file, save_file

from quantcliff import models

pytest.importorskip("gptqmodel", reason="the extra gptqmodel is not installed: make extras")

GROUP = 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small Llama whose matrices have 32 or 64 rows: 3 bits of zero points fill whole words then."""
    base = wrapped("llama")
    base.hf.save_pretrained(tmp_path / "packed")
    base.tokenizer.save_pretrained(tmp_path / "packed")
    return tmp_path / "packed"


def repack(folder: Path, stated: dict, pack) -> None:
    """Hand every projection to `pack`, which returns the tensors that take its place; state the format."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    for name in [name for name in weights if name.endswith("_proj.weight")]:
        part = name.removesuffix("weight")
        weights |= {f"{part}{key}": tensor for key, tensor in pack(name, weights.pop(name)).items()}
    save_file(weights, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = stated
    (folder / "config.json").write_text(json.dumps(config))


def grid(weight: torch.Tensor, bits: int, group_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (out, in), scales and zero points (out, group) of a plain rounding; columns of one number are a group."""
    values, n_groups = weight.numpy().astype(np.float64), group_of.max() + 1
    low = np.stack([values[:, group_of == g].min(1) for g in range(n_groups)], 1)
    high = np.stack([values[:, group_of == g].max(1) for g in range(n_groups)], 1)
    scale = ((high - low) / (2**bits - 1)).astype(np.float16).astype(np.float64)
    zero = np.clip(np.round(-low / scale), 1, 2**bits - 1)  # v1 stores one less, so that 0 is none
    codes = np.clip(np.round(values / scale[:, group_of]) + zero[:, group_of], 0, 2**bits - 1)
    return codes, scale, zero


def stream(values: np.ndarray, bits: int) -> torch.Tensor:
    """Codes (n, other) as one stream of bits along n, lowest first, in words of 32: (n * bits / 32, other)."""
    ones = (values.astype(np.int64)[:, None] >> np.arange(bits)[None, :, None]) & 1
    words = ones.reshape(-1, 32, values.shape[1])
    packed = (words << np.arange(32)[None, :, None]).sum(1)
    return torch.from_numpy(packed.astype(np.uint32).view(np.int32).copy())


@pytest.mark.parametrize("format_", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq(folder: Path, bits: int, act_order: bool, format_: str) -> None:
    expected, draw = {}, np.random.default_rng(0)

    def pack(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        columns = weight.shape[1]
        group_of = (draw.permutation(columns) if act_order else np.arange(columns)) // GROUP
        codes, scale, zero = grid(weight, bits, group_of)
        expected[name] = (codes - zero[:, group_of]) * scale[:, group_of]
        stored = zero - 1 if format_ == "gptq" else zero
        return {
            "qweight": stream(codes.T, bits), "qzeros": stream(stored, bits).T.contiguous(),
            "scales": torch.from_numpy(scale.T.copy()).half(), "g_idx": torch.from_numpy(group_of).int(),
        }  # fmt: skip

    stated = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "desc_act": act_order, "sym": False,
              "checkpoint_format": format_}  # fmt: skip
    repack(folder, stated, pack)
    weights = dict(models.load(folder).hf.named_parameters())
    assert len(expected) == 21
    for name, weight in expected.items():
        assert np.allclose(weights[name].numpy(), weight, atol=1e-3), name


def test_awq(folder: Path) -> None:
    from gptqmodel.quantization.awq.utils.packing_utils import pack_awq

    expected = {}

    def pack(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        group_of = np.arange(weight.shape[1]) // GROUP
        codes, scale, zero = grid(weight, 4, group_of)
        expected[name] = (codes - zero[:, group_of]) * scale[:, group_of]
        parts = (torch.from_numpy(part.T.copy()) for part in (codes, zero))
        rows, zeros = pack_awq(*(part.int() for part in parts), 4)
        return {"qweight": rows, "qzeros": zeros, "scales": torch.from_numpy(scale.T.copy()).half()}

    repack(folder, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}, pack)
    weights = dict(models.load(folder).hf.named_parameters())
    assert len(expected) == 21
    for name, weight in expected.items():
        assert np.allclose(weights[name].numpy(), weight, atol=1e-3), name
