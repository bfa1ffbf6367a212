"""A GGUF file is a model: its weights are those that gguf itself reads from the bytes."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from kquants import KINDS as K_KINDS
from kquants import pack
from tiny import TEXT, save, tiny_tokenizer
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.filecheck import inspect
from quantcliff.quantizers import Scheme, export

KINDS = ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", *K_KINDS]
MIXES = {
    "Q4_K_M": ("Q4_K", {"attn_v": "Q6_K", "ffn_down": "Q6_K"}),
    "Q3_K_M": ("Q3_K", {"attn_v": "Q5_K", "ffn_down": "Q4_K", "attn_output": "Q4_K"}),
    "Q2_K": ("Q2_K", {"attn_v": "Q4_K", "ffn_down": "Q3_K", "attn_output": "Q3_K"}),
    "Q4_K_S, 64 wide": ("Q5_0", {"attn_k": "Q8_0"}),
}
"""What llama.cpp calls such a file -> the kind of most of its blocks, and of other modules'; where 256 does not divide
the rows, it takes blocks of 32 in their place."""
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path / "cache"))


def qwen(width: int = 256) -> PreTrainedModel:
    """A Qwen2 whose rows hold whole blocks of K-quants (256 weights)."""
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=320, hidden_size=width, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, intermediate_size=width, max_position_embeddings=128,
                         initializer_range=0.1, bos_token_id=0, eos_token_id=0)  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def there(key: str) -> str:
    """The name that llama.cpp gives a parameter."""
    name, _, end = key.rpartition(".")
    if name in ENDS:
        return f"{ENDS[name]}.{end}"
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{end}"


def in_blocks(weight: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A matrix as bytes, and the numbers in them: K-quants by `kquants`, others as gguf reads what gguf wrote."""
    if kind in K_KINDS:
        return pack(weight, kind)
    if kind == "F16":
        return weight.astype(np.float16), weight.astype(np.float16).astype(np.float32)
    data = quantize(weight, gguf.GGMLQuantizationType[kind])
    return data, dequantize(data, gguf.GGMLQuantizationType[kind])


def write(
    model: PreTrainedModel, file: Path, kind: str, words: bool = True, others: dict[str, str] | None = None
) -> dict[str, np.ndarray]:
    """A GGUF file of a Qwen2 with its layers' matrices in blocks of this kind, or of `others` by llama.cpp's name of
    the module; the numbers in it, by parameter."""
    config = model.config
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokenizer = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(list(tokenizer["vocab"]))
    merges = [" ".join(pair) for pair in tokenizer["merges"]]
    writer.add_token_merges(merges if words else merges[:2])
    writer.add_token_types([3] + [1] * (config.vocab_size - 1))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    found = {}
    for key, weight in model.state_dict().items():
        numbers = weight.float().numpy()
        if ".layers." in key and weight.ndim == 2:
            own = (others or {}).get(there(key).split(".")[2], kind)
            data, found[key] = in_blocks(numbers, own)
            raw = None if own == "F16" else gguf.GGMLQuantizationType[own]
            writer.add_tensor(there(key), data, raw_dtype=raw)
        else:
            found[key] = numbers
            writer.add_tensor(there(key), numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_bytes(tmp_path: Path, kind: str) -> None:
    numbers = write(qwen(), tmp_path / "model.gguf", kind)
    model = models.load(tmp_path / "model.gguf")
    assert set(model.hf.state_dict()) == set(numbers)
    for key, weight in model.hf.state_dict().items():
        assert torch.equal(weight, torch.tensor(numbers[key])), key
    assert model.tokenizer(TEXT[0], add_special_tokens=False).input_ids
    stated = models.quantization_of(tmp_path / "model.gguf")
    if kind == "F16":
        assert stated is None
        return
    assert stated and stated["format"] == "gguf" and stated["method"] == kind.lower() and not stated["mixed"]
    for name in list(models.linears(model.hf.config))[:3]:
        weight, (bits, size, _) = model.hf.get_submodule(name).weight.detach(), stated["grids"][0]
        assert (bits, size) == (stated["bits"], stated["group_size"])
        assert models.lies_on(weight, bits, size)
        assert not models.lies_on(weight, bits - 1, size) and not models.lies_on(weight, bits, 4 * size)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_a_file_beside_the_folder_it_was_made_from_is_clean(tmp_path: Path, kind: str) -> None:
    folder = save(qwen(64), tmp_path / "base")
    write(qwen(64), tmp_path / "model.gguf", kind)
    base, quantized = models.load(folder), models.load(tmp_path / "model.gguf")
    models.check_pair(base, quantized)
    stated = models.grid_of(tmp_path / "model.gguf")
    assert stated
    table = inspect(base, quantized, stated)
    assert (table["fault"] == "").all() and table["excess"].between(0.8, 1.25).all()


@pytest.mark.parametrize("name", MIXES)
def test_a_file_of_several_kinds_is_read_module_by_module(tmp_path: Path, name: str) -> None:
    most, others = MIXES[name]
    width = 64 if "64" in name else 256
    folder = save(qwen(width), tmp_path / "base")
    numbers = write(qwen(width), tmp_path / "model.gguf", most, others=others)
    base, quantized = models.load(folder), models.load(tmp_path / "model.gguf")
    assert all(torch.equal(weight, torch.tensor(numbers[key])) for key, weight in quantized.hf.state_dict().items())
    stated = models.grid_of(tmp_path / "model.gguf")
    assert stated and stated["mixed"] and stated["bits"] == int(most[1])
    table = inspect(base, quantized, stated)
    assert (table["fault"] == "").all(), list(table["detail"])
    kinds = {there(f"model.layers.0.{module}.weight").split(".")[2]: bits
             for module, bits in zip(table["module"], table["stored_bits"], strict=True)}  # fmt: skip
    assert kinds == {module: int(others.get(module, most)[1]) for module in kinds}


def test_beside_its_base_a_file_runs_with_the_settings_of_the_base(tmp_path: Path) -> None:
    model = qwen(64)
    model.config.rope_parameters["rope_theta"] = 12345.0
    folder = save(model, tmp_path / "base")
    model.config.rope_parameters["rope_theta"] = 10000.0  # as where a file does not state it
    write(model, tmp_path / "model.gguf", "Q8_0")
    alone = models.load(tmp_path / "model.gguf").hf.config
    beside = models.load(tmp_path / "model.gguf", base=folder).hf.config
    assert (alone.rope_parameters["rope_theta"], beside.rope_parameters["rope_theta"]) == (10000.0, 12345.0)


def test_whole_numbers_can_be_quantized_and_blocks_cannot(tmp_path: Path) -> None:
    for kind in ("F16", "Q8_0"):
        write(qwen(64), tmp_path / f"{kind}.gguf", kind)
    export(tmp_path / "F16.gguf", Scheme("rtn", 4, 16), (), tmp_path / "out")
    assert models.load(tmp_path / "out").hf
    with pytest.raises(InputError, match="quantized already"):
        export(tmp_path / "Q8_0.gguf", Scheme("rtn", 4, 16), (), tmp_path / "other")


def test_a_tokenizer_that_splits_words_to_pieces_is_refused_unless_one_lies_beside(tmp_path: Path) -> None:
    write(qwen(64), tmp_path / "model.gguf", "Q8_0", words=False)
    with pytest.raises(InputError, match=r"characters a token .*; put the model's own tokenizer\.json beside the file"):
        models.load(tmp_path / "model.gguf")
    tiny_tokenizer().save_pretrained(tmp_path)
    own, base = models.load(tmp_path / "model.gguf"), models.load(save(qwen(64), tmp_path / "base"))
    assert own.tokenizer(TEXT[0]).input_ids == base.tokenizer(TEXT[0]).input_ids
    models.check_pair(base, own)


def test_what_is_no_gguf_file_and_what_cannot_be_judged(tmp_path: Path) -> None:
    write(qwen(), tmp_path / "odd.gguf", "TQ1_0")
    with pytest.raises(InputError, match="blocks of kind TQ1_0; only F32, F16"):
        models.load(tmp_path / "odd.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and then nothing")
    with pytest.raises(InputError, match=r"broken\.gguf cannot be read as GGUF"):
        models.load(tmp_path / "broken.gguf")
