"""Checkpoints come back as plain models, pairs are checked, and what cannot be read is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from quantcliff import atlas, models
from quantcliff.errors import InputError
from quantcliff.models import dequantize
from quantcliff.quantizers import Scheme, quantize

IDS = torch.tensor([[0, 5, 9, 200, 31, 7]])


@pytest.fixture(scope="module")
def quantized(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama rounded to 3 bits in groups of 16."""
    return quantize(tiny_llama, Scheme("rtn", 3, 16), (), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def copied(tiny_llama: Path, tmp_path: Path) -> Path:
    """A folder to spoil."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def edit_config(folder: Path, change: Callable[[dict], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# loading


@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gemma", "tiny_neox"])
def test_a_base_model_equals_plain_transformers(which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)
    model = models.load(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    assert torch.equal(model.hf(IDS).logits, plain(IDS).logits)
    assert not model.hf.training and not any(p.requires_grad for p in model.hf.parameters())
    assert model.hf.config._attn_implementation == "eager"
    assert model.name == folder.name


def test_atlas_is_the_embedded_folder(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas, "MODEL", tiny_llama)
    model = models.load("atlas")
    assert model.name == "atlas" and model.digest == models.digest_of(tiny_llama)
    assert models.load(tiny_llama, name="mine").name == "mine"


def test_a_quantized_model_comes_back_plain(tiny_llama: Path, quantized: Path) -> None:
    model, base = models.load(quantized), models.load(tiny_llama)
    reference = AutoModelForCausalLM.from_pretrained(quantized, attn_implementation="eager").eval()
    with torch.no_grad():
        assert torch.allclose(model.hf(IDS).logits, reference(IDS).logits, atol=1e-5)
        assert (model.hf(IDS).logits - base.hf(IDS).logits).abs().max() > 0.1
    assert {type(module) for module in model.hf.modules()} == {type(module) for module in base.hf.modules()}
    assert not hasattr(model.hf.config, "quantization_config")
    rows = model.hf.model.layers[1].mlp.up_proj.weight.reshape(-1, 16)
    assert max(len(row.unique()) for row in rows) <= 2**3
    models.check_pair(base, model)


def test_a_quantized_model_with_tied_embeddings(tiny_gemma: Path, tmp_path: Path) -> None:
    model = models.load(quantize(tiny_gemma, Scheme("rtn", 2, 32), (), tmp_path))
    base = models.load(tiny_gemma)
    assert model.hf.lm_head.weight is model.hf.model.embed_tokens.weight
    assert torch.equal(model.hf.lm_head.weight, base.hf.lm_head.weight)
    models.check_pair(base, model)


def test_dtype_is_honoured(tiny_llama: Path, quantized: Path) -> None:
    for folder in (tiny_llama, quantized):
        model = models.load(folder, dtype="bfloat16")
        assert {p.dtype for p in model.hf.parameters()} == {torch.bfloat16}
        assert model.digest != models.load(folder).digest, "recorded activations of one are not those of the other"


def test_digest_follows_weights_and_configuration(copied: Path) -> None:
    before = models.digest_of(copied)
    assert before == models.load(copied).digest

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["model.norm.weight"][3] += 1

    edit_weights(copied, change)
    middle = models.digest_of(copied)
    edit_config(copied, lambda config: config.update(rms_norm_eps=0.1))
    assert len({before, middle, models.digest_of(copied)}) == 3


# what cannot be loaded


def test_what_is_not_a_model_folder(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(InputError, match="meta-llama/Llama is not a folder"):
        models.load("meta-llama/Llama")
    with pytest.raises(InputError, match="no config"):
        models.load(tmp_path)
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        models.load(copied)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "does not hold a model configuration"),
        ('{"model_type": "abacus"}', "that transformers cannot use"),
    ],
)
def test_a_broken_configuration(copied: Path, text: str, message: str) -> None:
    (copied / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        models.load(copied)


def test_a_folder_without_tokenizer(copied: Path) -> None:
    for file in copied.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        models.load(copied)


def test_missing_weights_are_not_made_up(copied: Path) -> None:
    edit_weights(copied, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(InputError, match=r"lacks weights .* model\.layers\.1\.mlp\.up_proj\.weight"):
        models.load(copied)


def test_weights_of_another_shape(copied: Path) -> None:
    edit_config(copied, lambda config: config.update(intermediate_size=96))
    with pytest.raises(InputError, match="cannot be loaded"):
        models.load(copied)


def test_a_broken_weight_file(copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(b"nothing here")
    with pytest.raises(InputError, match="cannot be loaded"):
        models.load(copied)


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_is_not_ignored(copied: Path, beside: bool) -> None:
    (copied / "adapter_config.json").write_text("{}")
    if not beside:
        (copied / "config.json").unlink()
    with pytest.raises(InputError, match=r"holds an adapter.*merge it"):
        models.load(copied)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_are_placed(copied: Path, value: float) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        for name in ("model.layers.2.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"):
            weights[name][0, 0] = value

    edit_weights(copied, spoil)
    with pytest.raises(InputError, match=r"NaN or Inf in its weights, first in layer 1, mlp\.down_proj"):
        models.load(copied)


def test_unknown_dtype_and_device(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown dtype 'int4'"):
        models.load(tiny_llama, dtype="int4")
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        models.load(tiny_llama, device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device"):
        models.load(tiny_llama, device="cuda:0")
    assert models.check_device("auto") == models.default_device() == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert models.check_device("auto") == "cuda" and models.check_device("cuda:1") == "cuda:1"


# quantized checkpoints


def test_quantization_as_stated(tiny_llama: Path, quantized: Path, copied: Path, tmp_path: Path) -> None:
    assert models.quantization_of(tiny_llama) is None
    stated = {"format": "compressed-tensors", "method": "rtn", "bits": 3, "group_size": 16, "symmetric": False}
    assert models.quantization_of(quantized) == stated | {"mixed": False}
    rows = quantize(tiny_llama, Scheme("rtn", 4, -1, symmetric=True, bits_by_layer=((0, 8),)), (), tmp_path / "cache")
    assert models.quantization_of(rows) == stated | {"bits": 4, "group_size": -1, "symmetric": True, "mixed": True}
    awq = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}
    edit_config(copied, lambda config: config.update(quantization_config=awq))
    assert models.quantization_of(copied) == stated | {"format": "awq", "method": "awq", "bits": 4, "group_size": 64,
                                                       "mixed": False}  # fmt: skip


@pytest.mark.parametrize(
    ("modifier", "method"), [("GPTQModifier", "gptq"), ("AWQModifier: {}\n  QuantizationModifier", "awq")]
)
def test_the_algorithm_is_read_from_the_recipe(quantized: Path, tmp_path: Path, modifier: str, method: str) -> None:
    folder = Path(shutil.copytree(quantized, tmp_path / "copy"))
    (folder / "recipe.yaml").write_text(f"default_stage:\n  {modifier}: {{}}")
    stated = models.quantization_of(folder)
    assert stated and stated["method"] == method
    (folder / "recipe.yaml").unlink()
    stated = models.quantization_of(folder)
    assert stated and stated["method"] == "compressed-tensors"


def test_quantizations_that_cannot_be_read(copied: Path) -> None:
    edit_config(copied, lambda config: config.update(quantization_config={"quant_method": "hqq"}))
    with pytest.raises(InputError, match="quantized with hqq"):
        models.load(copied)


def test_a_layer_that_hands_over_no_weights(tiny_llama: Path) -> None:
    model = models.load(tiny_llama).hf
    model.lm_head = torch.nn.Linear(32, 100, bias=False)
    with pytest.raises(InputError, match=r"it gives no dequantized weights for lm_head\.weight"):
        dequantize.plain(model, models.config_of(tiny_llama), torch.float32, "it")


# pairs


def test_a_pair_of_different_architectures(tiny_llama: Path, tiny_gemma: Path) -> None:
    with pytest.raises(InputError, match="one is a LlamaForCausalLM, the other a Gemma2ForCausalLM"):
        models.check_pair(models.load(tiny_llama), models.load(tiny_gemma))


def resized(folder: Path, out: Path, **sizes: int) -> models.Model:
    config: PretrainedConfig = models.config_of(folder)
    config.update(sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return models.load(out)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"vocab_size": 330}, "vocabularies have 320 and 330 tokens"),
        ({"intermediate_size": 96}, r"layer 0, mlp\.gate_proj\.weight has shape \(64, 32\) in one and \(96, 32\)"),
        ({"num_hidden_layers": 2}, r"layer 2, self_attn\.q_proj\.weight has shape .* and nothing in the other"),
        ({"num_hidden_layers": 4}, r"layer 3, self_attn\.q_proj\.weight has shape nothing in one and"),
    ],
)
def test_a_pair_of_different_sizes(tiny_llama: Path, tmp_path: Path, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.check_pair(models.load(tiny_llama), resized(tiny_llama, tmp_path, **sizes))


def swap_two_tokens(settings: dict) -> None:
    vocab = settings["model"]["vocab"]
    vocab["A"], vocab["B"] = vocab["B"], vocab["A"]


@pytest.mark.parametrize(
    "change",
    [swap_two_tokens, lambda settings: settings.update(normalizer={"type": "Lowercase"})],
    ids=["vocabulary", "normalizer"],
)
def test_a_pair_of_different_tokenizers(tiny_llama: Path, copied: Path, change: Callable[[dict], None]) -> None:
    settings = json.loads((copied / "tokenizer.json").read_text())
    change(settings)
    (copied / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="tokenizers differ"):
        models.check_pair(models.load(tiny_llama), models.load(copied))


# splicing


def test_splice_takes_what_it_is_told(tiny_llama: Path, quantized: Path) -> None:
    base, other = models.load(tiny_llama), models.load(quantized)
    mixed = models.splice(base, other, lambda name: ".layers.1." in name)
    ours, theirs, found = (dict(model.hf.named_parameters()) for model in (base, other, mixed))
    changed = [name for name in found if not torch.equal(found[name], ours[name])]
    assert changed and all(".layers.1." in name for name in changed)
    assert all(torch.equal(found[name], theirs[name]) for name in found if ".layers.1." in name)
    assert mixed.digest not in (base.digest, other.digest)
    assert mixed.digest == models.splice(base, other, lambda name: ".layers.1." in name).digest
    assert mixed.digest != models.splice(base, other, lambda name: ".layers.2." in name).digest


def test_splicing_nothing_and_everything(tiny_llama: Path, quantized: Path) -> None:
    base, other = models.load(tiny_llama), models.load(quantized)
    none, every = (models.splice(base, other, lambda name, take=take: take) for take in (False, True))
    assert torch.equal(none.hf(IDS).logits, base.hf(IDS).logits)
    assert torch.equal(every.hf(IDS).logits, other.hf(IDS).logits)


def test_splicing_needs_a_pair(tiny_llama: Path, tiny_neox: Path) -> None:
    with pytest.raises(InputError, match="not a pair"):
        models.splice(models.load(tiny_llama), models.load(tiny_neox), lambda name: True)
