"""Weights stored as floats of 4 and 8 bits are read as the file has them, and so are quantized embeddings."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from quantcliff import models
from quantcliff.filecheck import inspect
from quantcliff.quantizers.compressor import quiet

LEVELS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
"""Of E2M1, by code; the fourth bit is the sign."""

FORMATS = {
    "NVFP4A16": {"bits": 4, "group_size": 16, "kind": "float"},
    "MXFP4A16": {"bits": 4, "group_size": 32, "kind": "mx"},
    "MXFP8": {"bits": 8, "group_size": 32, "kind": "mx"},
    "FP8_BLOCK": {"bits": 8, "group_size": 128, "kind": "float", "block": (128, 128)},
    "FP8_DYNAMIC": {"bits": 8, "group_size": -1, "kind": "float"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer whose FFN is no multiple of a block's 128 rows."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=320, hidden_size=128, num_hidden_layers=1, num_attention_heads=4,
                         intermediate_size=192, max_position_embeddings=128, initializer_range=0.1)  # fmt: skip
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def quantized(base: Path, out: Path, **modifier: object) -> Path:
    with quiet():
        from llmcompressor import oneshot
        from llmcompressor.modifiers.quantization import QuantizationModifier

        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
        recipe = [QuantizationModifier(ignore=["lm_head"], **modifier)]
        oneshot(model=model, tokenizer=tiny_tokenizer(), recipe=recipe, output_dir=str(out))
    return out


def own_reading(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A module's weights from the bytes of its tensors, with nothing of compressed-tensors."""
    scale = tensors[f"{name}.weight_scale"]
    scale = torch.exp2(scale.float() - 127) if scale.dtype == torch.uint8 else scale.float()
    if f"{name}.weight_global_scale" in tensors:
        scale = scale / tensors[f"{name}.weight_global_scale"].float()
    if f"{name}.weight_packed" in tensors:
        packed = tensors[f"{name}.weight_packed"]
        codes = torch.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1).long()
        weight = LEVELS[codes & 7] * torch.where(codes > 7, -1.0, 1.0)
    else:
        weight = tensors[f"{name}.weight"].float()
    for axis in (0, 1):
        size = -(-weight.shape[axis] // scale.shape[axis])
        size = 128 if scale.shape[axis] == 2 and size == 96 else size  # the last block is cut off
        scale = scale.repeat_interleave(size, axis).narrow(axis, 0, weight.shape[axis])
    return weight * scale


@pytest.mark.parametrize("preset", FORMATS)
def test_floats_are_read_as_stored_and_clean(base: Path, tmp_path: Path, preset: str) -> None:
    folder = quantized(base, tmp_path / preset, targets=["Linear"], scheme=preset)
    full, read = models.load(base), models.load(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in models.linears(full.hf.config):
        expected, found = own_reading(tensors, name), read.hf.get_submodule(name).weight
        torch.testing.assert_close(found, expected, atol=2**-8 * float(expected.abs().max()), rtol=0)
    stated = models.quantization_of(folder)
    assert stated and stated | FORMATS[preset] == stated and ("block" in stated) == (preset == "FP8_BLOCK")
    table = inspect(full, read, stated)
    assert table["excess"].between(0.8, 1.2).all() and (table["fault"] == "").all()


def test_scales_four_times_too_large_are_found_in_floats_too(base: Path, tmp_path: Path) -> None:
    folder = quantized(base, tmp_path / "bad", targets=["Linear"], scheme="MXFP4A16")
    full, read, stated = models.load(base), models.load(folder), models.quantization_of(folder)
    assert stated
    with torch.no_grad():
        read.hf.get_submodule("model.layers.0.mlp.up_proj").weight.mul_(4)
    table = inspect(full, read, stated).set_index("module")
    assert table["fault"]["mlp.up_proj"] == "scale"
    assert (table["fault"].drop("mlp.up_proj") == "").all()


def test_quantized_embeddings_are_read(base: Path, tmp_path: Path) -> None:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    args = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="channel")
    groups = {"all": QuantizationScheme(targets=["Linear", "Embedding"], weights=args)}
    folder = quantized(base, tmp_path / "embedding", config_groups=groups)
    assert "model.embed_tokens.weight" not in load_file(folder / "model.safetensors")
    one, other = (models.load(path).hf.get_input_embeddings().weight for path in (base, folder))
    step = one.abs().amax(1, keepdim=True) / 127
    assert ((one - other).abs() <= step).all() and not torch.equal(one, other)
