"""Checkpoints of llm-compressor that quantize inputs, run as compressed-tensors itself runs them."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tiny import tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from quantcliff import models
from quantcliff.filecheck import beside
from quantcliff.models import by_token, served_of
from quantcliff.quantizers.compressor import quiet
from quantcliff.tracing import Runner

IDS = torch.tensor([[0, 5, 17, 200, 31, 8, 99, 4, 300, 12], [0, 77, 3, 41, 250, 9, 11, 12, 13, 14]])

EIGHT = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FOUR = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
ATTENTION, FFN = r"re:.*self_attn.*_proj$", r"re:.*mlp.*_proj$"
SCHEMES: dict[str, dict] = {
    "NVFP4": {"scheme": "NVFP4"}, "MXFP4": {"scheme": "MXFP4"}, "MXFP8": {"scheme": "MXFP8"},
    "FP8": {"scheme": "FP8"}, "FP8_DYNAMIC": {"scheme": "FP8_DYNAMIC"},
    "by layer": {"config_groups": {
        "attention": {"targets": [ATTENTION], "weights": EIGHT, "input_activations": by_token(8)},
        "ffn": {"targets": [FFN], "weights": FOUR},
    }},
    "two widths": {"config_groups": {
        "attention": {"targets": [ATTENTION], "weights": EIGHT, "input_activations": by_token(8)},
        "ffn": {"targets": [FFN], "weights": EIGHT, "input_activations": by_token(4)},
    }},
    "head too": {"config_groups": {
        "all": {"targets": ["Linear"], "weights": EIGHT, "input_activations": by_token(4)},
    }, "ignore": []},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of the tiny Llama by each of `SCHEMES`."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    ids = torch.randint(1, 320, (4, 16), generator=torch.Generator().manual_seed(0))
    text = Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": torch.ones_like(ids).tolist()})
    found = {}
    for name, how in SCHEMES.items():
        found[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        recipe = QuantizationModifier(**{"targets": ["Linear"], "ignore": ["lm_head"]} | how)
        with quiet():
            hf = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
            oneshot(model=hf, tokenizer=tiny_tokenizer(), dataset=text, num_calibration_samples=4, max_seq_length=16,
                    recipe=[recipe], output_dir=str(found[name]))  # fmt: skip
    return found


def as_it_is(folder: Path) -> Tensor:
    """Logits of the checkpoint as transformers and compressed-tensors run it, unpacked."""
    with quiet():
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        hf.hf_quantizer.compressor.decompress_model(hf)
    nn.Module.float(hf)  # MXFP4 and MXFP8 are unpacked to bfloat16, whatever was asked for
    with torch.no_grad():
        return hf(IDS, use_cache=False).logits


def served(folder: Path) -> Runner:
    return Runner(models.serve(models.load(folder), served_of(folder)))


@pytest.mark.parametrize("name", SCHEMES)
def test_a_checkpoint_is_run_as_compressed_tensors_runs_it(made: dict[str, Path], name: str) -> None:
    expected = as_it_is(made[name])
    torch.testing.assert_close(served(made[name]).logits(IDS), expected, atol=1e-4, rtol=0)
    weights_alone = Runner(models.load(made[name])).logits(IDS)
    assert (weights_alone - expected).abs().max() > 0.01, "the inputs would not be seen"
    assert beside.left_out(made[name]) == []


@pytest.mark.parametrize(("name", "words", "layers"), [
    ("NVFP4", "inputs in 4 bits", 21), ("by layer", "inputs of 12 linear layers in 8 bits", 12),
    ("two widths", "inputs of 12 linear layers in 8 bits, inputs of 9 linear layers in 4 bits", 21),
    ("head too", "inputs of 22 linear layers in 4 bits", 22),
])  # fmt: skip
def test_each_layer_by_its_own_scheme(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, words: str, layers: int
) -> None:
    assert served_of(made[name]).words == words
    seen = rounded(served(made[name]), monkeypatch)
    assert len(seen) == layers
    if name == "two widths":
        for module, (_, after) in seen.items():
            most = max(len(row.unique()) for row in after.flatten(0, -2))
            assert (most > 16) if "self_attn" in module else (most <= 16), module


def rounded(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes into each linear layer whose inputs are quantized, and what its weights are multiplied with."""
    seen: dict[str, list[Tensor]] = {}
    names = {
        module: name.replace("._original_component", "")
        for name, module in runner.model.hf.named_modules()
        if isinstance(module, nn.Linear) and hasattr(module, "quantization_scheme")
    }
    plain = nn.Linear.forward

    def spy(self: nn.Linear, x: Tensor) -> Tensor:
        if self in names:
            seen[names[self]].append(x)
        return plain(self, x)

    for module in names:
        module.register_forward_pre_hook(lambda own, read: seen.setdefault(names[own], []).append(read[0]))
    monkeypatch.setattr(nn.Linear, "forward", spy)
    runner.logits(IDS)
    return {name: (before, after) for name, (before, after) in seen.items()}


LEVELS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
"""Of a 4-bit float (E2M1), without its sign."""


@pytest.mark.parametrize(("name", "size"), [("NVFP4", 16), ("MXFP4", 32)])
def test_inputs_lie_on_the_grid_of_four_bit_floats(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    """Scales worked out by hand: of NVFP4 an FP8 number over the second scale, of MXFP4 a power of two."""
    scales = served_of(made[name]).scales
    for module, (before, after) in rounded(served(made[name]), monkeypatch).items():
        groups, found = before.unflatten(-1, (-1, size)), after.unflatten(-1, (-1, size))
        largest = groups.abs().amax(-1, keepdim=True)
        if name == "NVFP4":
            scale = (largest / 6 * scales[module]).clamp(max=448).to(torch.float8_e4m3fn).float() / scales[module]
        else:
            code = found.abs().amax(-1, keepdim=True) / 2 ** torch.floor(torch.log2(largest))
            assert (torch.isin(code, torch.tensor([1.0, 1.5, 2.0]))).all(), "the largest number is 4 or 6 units, or 8"
            scale = 2 ** torch.floor(torch.log2(found.abs().amax(-1, keepdim=True))) / 4
        codes = found / scale
        nearest = LEVELS[(codes.abs()[..., None] - LEVELS).abs().argmin(-1)]
        torch.testing.assert_close(codes.abs(), nearest, atol=2e-3, rtol=0)
        assert not torch.equal(before, after)
