"""The second target of healing: gradients that a layer hands back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TEXT

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.quantizers import Scheme, healing, quantize
from quantcliff.quantizers.healing import Recipe, heal, rows_of
from quantcliff.quantizers.healing.blocks import Blocks
from quantcliff.quantizers.healing.term import Term, Terms, pulled_back, stream_gradients


@pytest.fixture(scope="module")
def full(tiny_llama: Path) -> Blocks:
    model = models.load(tiny_llama)
    return Blocks(model, ids_of(model))


def ids_of(model: models.Model) -> torch.Tensor:
    return rows_of(model.tokenizer, TEXT * 8, 12)[:6]


def test_a_layer_pulls_back_what_comes_in_front_of_it(full: Blocks) -> None:
    ids = ids_of(full.model)
    gradients = stream_gradients(full, ids)
    assert len(gradients) == 4
    stream = full.start(ids)
    for layer in range(3):
        found = pulled_back(full, layer, stream, gradients[layer + 1])
        torch.testing.assert_close(found, gradients[layer], rtol=1e-3, atol=1e-6)
        stream = full.whole(layer, stream)
    own = stream.requires_grad_()
    logits = full.model.hf.lm_head(full.model.hf.model.norm(own))
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) * len(ids)
    torch.testing.assert_close(torch.autograd.grad(loss, own)[0], gradients[3], rtol=1e-3, atol=1e-6)


def test_the_error_is_relative_and_leaves_the_first_token_out(full: Blocks) -> None:
    ids = ids_of(full.model)
    terms, stream = Terms(full, ids, 0.5, "gradient"), full.start(ids)
    term, rows = terms.of(0, stream), torch.tensor([1, 4])
    assert term.weight == 0.5
    x = stream[rows].requires_grad_()
    assert term.error(x, full.call(0, x), rows).item() < 1e-8, "full precision hands back what it should"
    x = stream[rows].requires_grad_()
    error = term.error(x, full.call(0, x) * 3, rows)
    want = 4 * term.before[rows][:, 1:].square().mean() / term.before[:, 1:].square().mean()
    assert error.item() == pytest.approx(float(want), rel=1e-3)
    spoilt = Term(1.0, term.behind, torch.cat([term.before[:, :1] + 100, term.before[:, 1:]], 1))
    x = stream[rows].requires_grad_()
    assert spoilt.error(x, full.call(0, x), rows).item() < 1e-8


def test_a_random_vector_is_as_long_and_another(full: Blocks) -> None:
    ids = ids_of(full.model)
    kinds = ("gradient", "random", "random")
    own, other, again = (Terms(full, ids, 1.0, along, 3).of(1, full.start(ids)) for along in kinds)
    torch.testing.assert_close(own.behind.norm(dim=-1), other.behind.norm(dim=-1), rtol=1e-4, atol=1e-9)
    assert torch.cosine_similarity(own.behind[:, 1:-1], other.behind[:, 1:-1], dim=-1).abs().mean() < 0.3
    assert torch.equal(other.behind, again.behind) and torch.equal(other.before, again.before)
    torch.testing.assert_close(other.before, pulled_back(full, 1, full.start(ids), other.behind))


def test_it_is_learned_only_with_a_weight(tiny_llama: Path, tmp_path: Path) -> None:
    rounded = quantize(tiny_llama, Scheme("rtn", 2, 16), (), tmp_path / "rounded")
    plain = Recipe(epochs=3, batch=8)
    found, files = {}, {}
    recipes = {
        "plain": plain, "measured": replace(plain, along="gradient"),
        "own": replace(plain, along="gradient", smooth=1.0), "random": replace(plain, along="random", smooth=1.0),
    }  # fmt: skip
    for name, recipe in recipes.items():
        folder = heal(tiny_llama, rounded, TEXT * 8, tmp_path / name, recipe, tokens=16)
        course = json.loads((folder / healing.REPORT).read_text())["course"]
        found[name], files[name] = course, (folder / "model.safetensors").read_bytes()
    assert files["plain"] == files["measured"] and "gradient" not in found["plain"][0]

    def total(name: str, epoch: int) -> float:
        return sum(row["gradient"] for row in found[name] if row["epoch"] == epoch)

    assert total("own", 3) < 0.9 * total("measured", 3) and total("random", 3) < total("random", 0)
    assert len(set(files.values())) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"along": "nowhere"}, {"smooth": 1.0}, {"along": "gradient", "smooth": -1.0},
        {"along": "random", "smooth": float("inf")},
    ],
)  # fmt: skip
def test_what_is_no_term_is_refused(changes: dict) -> None:
    with pytest.raises(InputError, match="give gradient or random, and a weight of at least 0"):
        Recipe(**changes).check()
