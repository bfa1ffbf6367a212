"""GPTQModel reads a GPTQ or AWQ file as it is read here; needs the extra gptqmodel (`make extras`)."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from packing import GROUP, awq, folder_of, gptq, repack
from transformers import AutoModelForCausalLM

from quantcliff import models
from quantcliff.models import dequantize

pytest.importorskip("gptqmodel", reason="the extra gptqmodel is not installed: make extras")

KERNELS = {"gptq": "gptq_torch", "awq": "torch_awq"}
"""Those in plain PyTorch; the default ones round weights to bfloat16."""


@torch.no_grad()
def same_weights(folder: Path, method: str) -> int:
    """How many packed modules the two readers agree about; each of GPTQModel's is fed unit vectors."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    config = models.config_of(folder)
    config.quantization_config["backend"] = KERNELS[method]
    with dequantize.packed_modules():
        theirs = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    theirs(torch.zeros((1, 1), dtype=torch.long))
    ours, n = models.load(folder).hf, 0
    for name, module in theirs.named_modules():
        if hasattr(module, "qweight"):
            own = ours.get_submodule(name)
            out = module(torch.eye(own.in_features)).float()
            assert torch.allclose(out - out.new_tensor(0 if own.bias is None else own.bias), own.weight.T, atol=1e-3)
            n += 1
    return n


@pytest.mark.parametrize("format_", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq(tmp_path: Path, bits: int, act_order: bool, format_: str) -> None:
    draw, folder = np.random.default_rng(0), folder_of("llama", tmp_path / "packed")

    def pack(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        order = draw.permutation(weight.shape[1]) if act_order else np.arange(weight.shape[1])
        return gptq(weight, bits, order // GROUP, format_ == "gptq")[1]

    stated = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "desc_act": act_order, "sym": False,
              "checkpoint_format": format_}  # fmt: skip
    repack(folder, stated, pack)
    assert same_weights(folder, "gptq") == 21


def test_awq(tmp_path: Path) -> None:
    folder = folder_of("llama", tmp_path / "packed")
    stated = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
    repack(folder, stated, lambda name, weight: awq(weight)[1])
    assert same_weights(folder, "awq") == 21
