"""A model writes its own calibration text: the same for the same seed, kept by content, without special tokens."""

import json

import pytest
import torch
from transformers import AutoTokenizer

from quantcliff import models, smollm2
from quantcliff.errors import InputError
from quantcliff.quantizers import calibration_text, check_calibration, self_text, sizes_of
from quantcliff.quantizers.own_text import lead_of, sample

FOLDER = smollm2.folder()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCLIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_same_seed_writes_the_same_text_and_another_seed_another(tiny_llama):
    one = sample(tiny_llama, 3, 12, seed=1)
    assert len(one) == len(set(one)) == 3
    torch.manual_seed(99)
    assert sample(tiny_llama, 3, 12, seed=1) == one
    assert sample(tiny_llama, 3, 12, seed=2) != one


def test_sampling_leaves_the_random_numbers_of_others_alone(tiny_llama):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    sample(tiny_llama, 1, 4, seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_text_is_written_once_for_each_content(tiny_llama, cache, monkeypatch):
    text = self_text(tiny_llama, 2, 8)
    kept = list((cache / "self-text").iterdir())
    assert [json.loads(file.read_text()) for file in kept] == [text]
    monkeypatch.delattr("quantcliff.quantizers.own_text.sample")
    assert self_text(tiny_llama, 2, 8) == text
    with pytest.raises(NameError):
        self_text(tiny_llama, 2, 9)
    with pytest.raises(NameError):
        self_text(tiny_llama, 2, 8, seed=0)


def test_documents_have_the_asked_length_and_no_special_token(tiny_llama, monkeypatch):
    drawn = []
    generate = type(models.load(tiny_llama).hf).generate

    def watched(self, *args, **kwargs):
        drawn.append(generate(self, *args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr("transformers.LlamaForCausalLM.generate", watched)
    sample(tiny_llama, 34, 10, seed=0)
    assert [tuple(ids.shape) for ids in drawn] == [(32, 11), (2, 11)]  # <s> in front, which its tokenizer adds
    for ids in drawn:
        assert (ids[:, 0] == 0).all() and (ids[:, 1:] != 0).all()


def test_temperature_is_one_and_nothing_is_cut_off(tiny_llama):
    """The first token drawn after <s> has the model's own distribution: 2,000 draws fit it."""
    model = models.load(tiny_llama)
    with torch.no_grad():
        logits = model.hf(torch.tensor([[0]])).logits[0, -1]
    logits[0] = -torch.inf
    chance = torch.softmax(logits, -1)
    words = sample(tiny_llama, 2000, 1, seed=3)
    expected = {}
    for token in range(1, 320):
        word = model.tokenizer.decode([token])
        expected[word] = expected.get(word, 0) + float(chance[token])
    top = max(expected, key=expected.get)
    share = sum(word == top for word in words) / len(words)
    error = (expected[top] * (1 - expected[top]) / len(words)) ** 0.5
    assert abs(share - expected[top]) < 4 * error
    seen = len(set(words))
    possible = sum(1 - (1 - p) ** len(words) for p in expected.values())
    assert abs(seen - possible) < 0.15 * possible


def test_without_leading_token_a_document_starts_with_an_ordinary_one(tiny_llama, tmp_path, monkeypatch):
    model = models.load(tiny_llama)
    assert lead_of(model.tokenizer) == [0]
    monkeypatch.setattr("quantcliff.quantizers.own_text.lead_of", lambda tokenizer: [])
    shapes = []
    generate = type(model.hf).generate
    monkeypatch.setattr(
        "transformers.LlamaForCausalLM.generate",
        lambda self, ids, **kwargs: shapes.append((ids.clone(), generate(self, ids, **kwargs))) or shapes[-1][1],
    )
    sample(tiny_llama, 4, 6, seed=0)
    first, drawn = shapes[0]
    assert first.shape == (4, 1) and (first != 0).all() and len(set(first.flatten().tolist())) > 1
    assert drawn.shape == (4, 6)


def test_calibration_named_self(tiny_llama):
    assert sizes_of("self") == (64, 256)
    assert sizes_of("self:3x7") == (3, 7)
    assert sizes_of("atlas") is None and sizes_of("some/self.txt") is None
    text = calibration_text("self:3x7", model=tiny_llama)
    assert text == self_text(tiny_llama, 3, 7)
    assert calibration_text("self:3x7", n=2, model=tiny_llama) == text[:2]
    with pytest.raises(InputError, match="say which model"):
        calibration_text("self")
    for wrong in ("self:", "self:0x5", "self:5", "self:5x"):
        with pytest.raises(InputError, match=r"write self, or self:64x256"):
            check_calibration(wrong)
    check_calibration("self")
    with pytest.raises(InputError, match="no calibration text"):
        check_calibration("missing.txt")


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"SmolLM2 is not on this machine; {smollm2.HOW}")
def test_smollm2_puts_nothing_in_front_of_a_text():
    assert lead_of(AutoTokenizer.from_pretrained(FOLDER)) == []


def test_awq_is_given_a_quarter(tiny_llama):
    whole = calibration_text("self:8x16", model=tiny_llama)
    assert len(whole) == 8
    assert calibration_text("self:8x16", model=tiny_llama, method="awq") == whole[:2]
    assert len(calibration_text("self:2x16", model=tiny_llama, method="awq")) == 1
    assert calibration_text("atlas", 8, method="awq") == calibration_text("atlas", 8)
