"""Quantized checkpoints hold what their scheme says, for three methods and two architectures."""

import json
from pathlib import Path

import pytest
import torch
from tiny import TEXT
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig

from quantcliff import models
from quantcliff import quantizers as q
from quantcliff.atlas import load_facts, prompt
from quantcliff.errors import InputError
from quantcliff.models import linears
from quantcliff.quantizers import Scheme, average_bits, calibration, calibration_text, checkpoints, compressor, quantize


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """State dict of a model, dequantized by one forward."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        model(torch.zeros(1, 2, dtype=torch.long))
    return {name: value.detach().float() for name, value in model.state_dict().items() if value.is_floating_point()}


def quantized_names(folder: Path) -> list[str]:
    return [f"{name}.weight" for name in linears(AutoConfig.from_pretrained(folder))]


def nearest(weight: torch.Tensor, bits: int, group: int, symmetric: bool) -> torch.Tensor:
    """Round to nearest by the textbook, on a range that always contains 0."""
    rows = weight.reshape(-1, group)
    low, high = rows.amin(1, True).clamp(max=0), rows.amax(1, True).clamp(min=0)
    if symmetric:
        scale = 2 * torch.maximum(-low, high) / (2**bits - 1)
        return ((rows / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale).reshape(weight.shape)
    scale = (high - low) / (2**bits - 1)
    zero = (-low / scale).round()
    return (((rows / scale + zero).round().clamp(0, 2**bits - 1) - zero) * scale).reshape(weight.shape)


@pytest.mark.parametrize("method", q.METHODS)
@pytest.mark.parametrize(("bits", "group"), [(2, 16), (3, -1), (4, 32)])
def test_weights_lie_on_the_grid(tiny_llama: Path, tmp_path: Path, method: str, bits: int, group: int) -> None:
    made = weights(quantize(tiny_llama, Scheme(method, bits, group), TEXT, tmp_path))
    for name in quantized_names(tiny_llama):
        rows = made[name].reshape(-1, made[name].shape[1] if group == -1 else group)
        levels = max(len(torch.unique(row)) for row in rows)
        assert levels <= 2**bits
        assert levels > 2 ** (bits - 1)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [16, -1])
def test_rtn_is_rounding_to_nearest(tiny_llama: Path, tmp_path: Path, symmetric: bool, group: int) -> None:
    full = weights(tiny_llama)
    made = weights(quantize(tiny_llama, Scheme("rtn", 3, group, symmetric), (), tmp_path))
    for name in quantized_names(tiny_llama):
        size = full[name].shape[1] if group == -1 else group
        torch.testing.assert_close(made[name], nearest(full[name], 3, size, symmetric), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", q.METHODS)
@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gemma"])
def test_what_users_leave_alone_is_untouched(
    request: pytest.FixtureRequest, tmp_path: Path, method: str, fixture: str
) -> None:
    base = request.getfixturevalue(fixture)
    full, made = weights(base), weights(quantize(base, Scheme(method, 4, 16), TEXT, tmp_path))
    quantized = set(quantized_names(base))
    assert all(not torch.equal(full[name], made[name]) for name in quantized)
    for name in set(full) - quantized:
        if method == "awq" and "norm" in name:  # AWQ folds its scales into the norm before a quantized layer
            continue
        torch.testing.assert_close(made[name], full[name], atol=1e-6, rtol=0)


def test_awq_rescaling_cancels(tiny_llama: Path, tmp_path: Path) -> None:
    """At 8 bits AWQ is no farther from full precision than rounding, though its norms and weights are others."""
    ids = torch.arange(1, 30).unsqueeze(0)
    full = AutoModelForCausalLM.from_pretrained(tiny_llama)(ids).logits
    error = {}
    for method in ("awq", "rtn"):
        made = AutoModelForCausalLM.from_pretrained(quantize(tiny_llama, Scheme(method, 8, 16), TEXT, tmp_path))
        error[method] = (made(ids).logits - full).std().item()
    assert error["awq"] < 1.5 * error["rtn"]


def test_tied_embeddings_stay_tied(tiny_gemma: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(quantize(tiny_gemma, Scheme("gptq", 4, 16), TEXT, tmp_path))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize("method", q.METHODS)
def test_error_grows_as_bits_fall(tiny_llama: Path, tmp_path: Path, method: str) -> None:
    ids = torch.arange(1, 30).unsqueeze(0)
    full = AutoModelForCausalLM.from_pretrained(tiny_llama)(ids).logits
    errors = []
    for bits in (8, 4, 3, 2):
        made = AutoModelForCausalLM.from_pretrained(quantize(tiny_llama, Scheme(method, bits, 16), TEXT, tmp_path))
        errors.append((made(ids).logits - full).pow(2).mean().item())
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 100


def test_gptq_fits_its_calibration_text_better_than_rounding(tiny_llama: Path, tmp_path: Path) -> None:
    """First layer's down-projection apart, the error of a layer's output on calibration text is what GPTQ lowers."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    full = weights(tiny_llama)
    embedded = torch.cat([full["model.embed_tokens.weight"][tokenizer(text).input_ids] for text in TEXT])
    x = embedded * (embedded.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
    name = "model.layers.0.self_attn.q_proj.weight"
    error = {}
    for method in ("gptq", "rtn"):
        made = weights(quantize(tiny_llama, Scheme(method, 3, -1), TEXT, tmp_path))
        error[method] = (x @ (made[name] - full[name]).T).pow(2).sum().item()
    assert error["gptq"] < 0.8 * error["rtn"]


def test_the_same_bytes_twice(tiny_llama: Path, tmp_path: Path) -> None:
    for method in q.METHODS:
        runs = [quantize(tiny_llama, Scheme(method, 3, 16), TEXT, tmp_path / run) for run in ("one", "two")]
        first, second = ((folder / "model.safetensors").read_bytes() for folder in runs)
        assert first == second


def test_overrides_by_layer_and_module(tiny_llama: Path, tmp_path: Path) -> None:
    single = "model.layers.2.mlp.down_proj"
    scheme = Scheme("gptq", 2, -1, bits_by_layer=((0, 4), (2, 3)), bits_by_module=((single, 8),))
    made = weights(quantize(tiny_llama, scheme, TEXT, tmp_path))

    def levels(name: str) -> int:
        return max(len(torch.unique(row)) for row in made[f"{name}.weight"])

    assert levels("model.layers.1.mlp.up_proj") <= 4
    assert 8 < levels("model.layers.0.mlp.up_proj") <= 16
    assert 4 < levels("model.layers.2.mlp.up_proj") <= 8
    assert levels(single) > 16


def test_only_the_chosen_layers_and_modules(tiny_llama: Path, tmp_path: Path) -> None:
    full = weights(tiny_llama)
    made = weights(quantize(tiny_llama, Scheme("gptq", 2, 16, layers=(1,), modules=("v_proj",)), TEXT, tmp_path))
    changed = {name for name in full if not torch.equal(full[name], made[name])}
    assert changed == {"model.layers.1.self_attn.v_proj.weight"}


def test_a_finished_checkpoint_is_reused(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = Scheme("gptq", 4, 16)
    first = quantize(tiny_llama, scheme, TEXT, tmp_path)

    def fail(*_: object) -> None:
        raise AssertionError("quantized again")

    monkeypatch.setattr(checkpoints, "_compress", fail)
    assert quantize(tiny_llama, scheme, TEXT, tmp_path) == first
    for other in (Scheme("gptq", 4, 16, damping=0.1), Scheme("gptq", 4, 16, symmetric=True)):
        with pytest.raises(AssertionError, match="again"):
            quantize(tiny_llama, other, TEXT, tmp_path)
    with pytest.raises(AssertionError, match="again"):
        quantize(tiny_llama, scheme, TEXT[:3], tmp_path)


def test_a_killed_run_leaves_nothing(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(folder: Path, scheme: Scheme, config: object, calibration: object, out: Path) -> None:
        out.mkdir()
        (out / "config.json").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_compress", die)
    with pytest.raises(KeyboardInterrupt):
        quantize(tiny_llama, Scheme("rtn", 4, 16), (), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (Scheme("gguf"), "choose one of gptq, awq, rtn, autoround"),
        (Scheme(bits=1), "1 bits"),
        (Scheme(bits=4, group_size=16, bits_by_layer=((0, 9),)), "9 bits"),
        (Scheme(group_size=48), "choose one of 16, 32, -1"),
        (Scheme(group_size=128), "group size 128 does not divide"),
        (Scheme(group_size=0), "group size 0"),
        (Scheme(group_size=16, damping=0.0), "damping"),
        (Scheme(group_size=16, layers=(3,)), "no layer 3; the model has layers 0 to 2"),
        (Scheme(group_size=16, modules=("w1",)), "no module 'w1'"),
        (Scheme(group_size=16, bits_by_module=(("model.layers.9.mlp.up_proj", 8),)), "no module"),
        (Scheme(group_size=16, layers=()), "nothing to quantize"),
    ],
)
def test_a_scheme_that_does_not_fit(tiny_llama: Path, tmp_path: Path, scheme: Scheme, words: str) -> None:
    with pytest.raises(InputError, match=words):
        quantize(tiny_llama, scheme, TEXT, tmp_path)


def test_models_that_cannot_be_quantized(tiny_llama: Path, tiny_neox: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gpt2 model keeps its weights in Conv1D.* with GPTQModel or llama\.cpp"):
        Scheme(group_size=16).check(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=64))
    with pytest.raises(InputError, match="AWQ does not know gpt_neox"):
        quantize(tiny_neox, Scheme("awq", 4, 16), TEXT, tmp_path)
    with pytest.raises(InputError, match="AutoRound leaves out weights with a side of 16, which 32 does not divide"):
        quantize(tiny_llama, Scheme("autoround", 4, 16), TEXT, tmp_path)
    with pytest.raises(InputError, match="is not a model"):
        quantize(tmp_path, Scheme(), TEXT, tmp_path)
    with pytest.raises(InputError, match="quantized already"):
        quantize(quantize(tiny_llama, Scheme("rtn", 4, 16), (), tmp_path), Scheme("rtn", 4, 16), (), tmp_path)
    with pytest.raises(InputError, match="needs calibration text"):
        quantize(tiny_llama, Scheme("gptq", 4, 16), (), tmp_path)
    with pytest.raises(InputError, match="exists already"):
        q.export(tiny_llama, Scheme("rtn", 4, 16), (), tmp_path)


def test_autoround_is_nearer_than_rounding_on_its_text(
    tiny_neox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays on a grid of four levels, and lowers the error of what it trains on."""
    monkeypatch.setattr(compressor, "ITERATIONS", 40)
    base = tiny_neox
    trained = quantize(base, Scheme("autoround", 2, 16), TEXT * 8, tmp_path)
    rounded = quantize(base, Scheme("rtn", 2, 16), (), tmp_path)
    one, other = weights(trained), weights(rounded)
    assert any(not torch.equal(one[name], other[name]) for name in quantized_names(base))
    for name in quantized_names(base):
        assert max(len(torch.unique(row)) for row in one[name].reshape(-1, 16)) <= 4
    exact, *made = (models.load(folder) for folder in (base, trained, rounded))
    ids = torch.cat(calibration.equal_rows(exact.tokenizer, TEXT * 8))
    goal = exact.hf(ids).logits
    error, plain = (float((model.hf(ids).logits - goal).pow(2).mean()) for model in made)
    assert error < plain


def test_autoround_reads_sequences_of_equal_length(tiny_llama: Path) -> None:
    tokenizer = models.tokenizer_of(tiny_llama)
    rows = calibration.equal_rows(tokenizer, TEXT * 8, 9)
    assert len(rows) > 2
    assert {tuple(row.shape) for row in rows} == {(1, 9)}
    with pytest.raises(InputError, match="give at least 2"):
        calibration.equal_rows(tokenizer, TEXT[:1], 64)


def test_neox_by_gptq(tiny_neox: Path, tmp_path: Path) -> None:
    made = weights(quantize(tiny_neox, Scheme("gptq", 2, 16), TEXT, tmp_path))
    for name in quantized_names(tiny_neox):
        assert max(len(torch.unique(row)) for row in made[name].reshape(-1, 16)) <= 4


def test_average_bits_by_hand() -> None:
    config = LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                         num_key_value_heads=1, intermediate_size=64)  # fmt: skip
    assert average_bits(config, Scheme("rtn", 4, 32)) == pytest.approx(4 + (16 + 4) / 32)
    assert average_bits(config, Scheme("rtn", 4, 32, symmetric=True)) == pytest.approx(4 + 16 / 32)
    mixed = Scheme("rtn", 2, 16, bits_by_layer=((0, 8),))
    assert average_bits(config, mixed) == pytest.approx((2 + 18 / 16 + 8 + 24 / 16) / 2)
    # rows of 32 (q, k, v, o, gate, up) and of 64 (down): 3,072 + 4,096 and 2,048 weights a layer
    by_row = (4 * 9216 + 20 * (32 + 16 + 16 + 32 + 64 + 64 + 32)) / 9216
    assert average_bits(config, Scheme("rtn", 4, -1)) == pytest.approx(by_row)
    assert average_bits(config, Scheme("rtn", 4, 32, layers=(0,))) == pytest.approx((4 + 20 / 32 + 16) / 2)


def test_labels() -> None:
    assert Scheme("gptq", 4, 128).label == "gptq-4bit-g128"
    scheme = Scheme("rtn", 2, -1, symmetric=True, layers=(0,), bits_by_layer=((0, 8),))
    assert scheme.label == "rtn-2bit-row-sym-part-mixed"


def test_atlas_calibration_is_disjoint_from_the_test_prompts() -> None:
    documents = calibration_text("atlas")
    assert documents == calibration_text("atlas")
    assert len(set(documents)) > 200
    text = "\n".join(documents)
    assert not [fact for fact in load_facts() if fact.subject in text and prompt(fact) + " " + fact.object in text]


def test_calibration_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("One line.\nTwo lines.\n\nA new paragraph.\n")
    assert calibration_text(str(file)) == ["One line.\nTwo lines.", "A new paragraph."]
    file.write_text("One.\nTwo.\nThree.\nFour.\n")
    assert calibration_text(str(file)) == ["One.", "Two.", "Three.", "Four."]
    assert calibration_text(str(file), n=2) == ["One.", "Three."]
    file.write_text(" \n")
    with pytest.raises(InputError, match="empty"):
        calibration_text(str(file))
    with pytest.raises(InputError, match="no calibration text"):
        calibration_text(str(tmp_path / "missing.txt"))


def test_batches_hold_no_padding(tiny_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    documents = ["Rome", "", "Rome is the capital of Italy.", "Nobody knows", "Rome is the capital of Italy. " * 50]
    lengths = sorted(len(tokenizer(text).input_ids) for text in documents)
    made = q.token_batches(tokenizer, documents, longest=20, rows=2)
    assert [tuple(batch.shape) for batch in made] == [(2, lengths[0]), (2, lengths[2]), (1, 20)]
    first = made[2][0].tolist()
    assert first == tokenizer(documents[-1]).input_ids[:20]


def test_the_checkpoint_is_ordinary(tiny_llama: Path, tmp_path: Path) -> None:
    made = quantize(tiny_llama, Scheme("gptq", 4, 16), TEXT, tmp_path)
    stated = json.loads((made / "config.json").read_text())["quantization_config"]
    assert stated["quant_method"] == "compressed-tensors"
    assert stated["format"] == "pack-quantized"
    assert (made / "tokenizer.json").exists()
