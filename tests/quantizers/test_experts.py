"""Mixtures of experts become files that plain transformers reads whole, or are refused."""

from pathlib import Path

import pytest
import torch
from families import family
from safetensors import safe_open
from tiny import TEXT, save
from transformers import AutoModelForCausalLM

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.filecheck import inspect
from quantcliff.quantizers import Scheme, quantize

NAMES = {"mixtral": "block_sparse_moe.experts.3.w2", "qwen3-moe": "mlp.experts.3.down_proj"}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_plain_transformers_and_we_read_every_expert(name: str, tmp_path: Path) -> None:
    base = save(family(name), tmp_path / name)
    folder = quantize(base, Scheme("rtn", 4, 16), (), tmp_path / "cache")
    plain, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert f"model.layers.1.{NAMES[name]}.weight_packed" in file.keys()  # noqa: SIM118
    full, ours = models.load(base), models.load(folder)
    for key, stack in models.stacks(full.hf).items():
        found = ours.hf.get_parameter(key)
        assert torch.equal(found, plain.get_parameter(key))
        assert 0.02 < float((found - stack).norm() / stack.norm()) < 0.12
    stated = models.quantization_of(folder)
    assert stated and stated["symmetric"] and not stated["mixed"]
    table = inspect(full, ours, stated)
    assert (table["fault"] == "").all() and table["excess"].between(0.9, 1.1).all()
    assert table["module"].str.contains("experts").sum() == 3 * 4 * 2


@pytest.mark.parametrize(
    ("model", "scheme", "words"),
    [
        ("gpt-oss", Scheme("rtn", 4, 16), "no place for quantized experts in gpt_oss models"),
        ("mixtral", Scheme("gptq", 4, 16), "see too little of the calibration text"),
        ("mixtral", Scheme("rtn", 4, 16, layers=(0,)), "the same bits everywhere"),
        ("mixtral", Scheme("rtn", 4, 16, bits_by_layer=((0, 8),)), "the same bits everywhere"),
    ],
)
def test_what_could_not_be_read_is_refused(model: str, scheme: Scheme, words: str, tmp_path: Path) -> None:
    base = save(family(model), tmp_path / model)
    with pytest.raises(InputError, match=words):
        quantize(base, scheme, TEXT, tmp_path / "cache")


def test_convolutions_are_no_experts() -> None:
    assert not models.stacks(family("lfm2"))
    assert len(models.stacks(family("gpt-oss"))) == 6
