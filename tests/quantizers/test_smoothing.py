"""Undoing AWQ's rescaling changes no output and brings the weights back to the base's units."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import family, wrapped
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SIZES, TEXT, save, tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from quantcliff import models
from quantcliff.models import linears
from quantcliff.quantizers import Scheme, links, norm_gain, quantize, row_gain, unsmoothed
from quantcliff.quantizers.rounding import rounded

IDS = torch.randint(1, 320, (4, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gemma"])
@pytest.mark.parametrize("bits", [8, 2])
def test_same_function_in_the_units_of_the_base(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str, bits: int
) -> None:
    folder = request.getfixturevalue(fixture)
    base, smoothed = models.load(folder), models.load(quantize(folder, Scheme("awq", bits, 16), TEXT, tmp_path))
    plain = unsmoothed(base, smoothed)
    torch.testing.assert_close(plain.hf(IDS).logits, smoothed.hf(IDS).logits, atol=1e-4, rtol=1e-4)
    exact, before, after = (dict(model.hf.named_parameters()) for model in (base, smoothed, plain))
    moved = [name for name in exact if "norm" in name and not torch.allclose(before[name], exact[name])]
    assert moved
    for name in exact:
        if "norm" in name:
            torch.testing.assert_close(after[name], exact[name], atol=1e-6, rtol=0)
    if bits == 8:
        for name in linears(base.hf.config):
            exact_weight = exact[f"{name}.weight"]
            error = (after[f"{name}.weight"] - exact_weight).norm() / exact_weight.norm()
            assert error < 0.02, name


def test_the_down_projection_is_brought_back_too(tiny_llama: Path, tmp_path: Path) -> None:
    base, smoothed = models.load(tiny_llama), models.load(quantize(tiny_llama, Scheme("awq", 4, 16), TEXT, tmp_path))
    plain = unsmoothed(base, smoothed)

    def error(model: models.Model, name: str) -> float:
        exact = dict(base.hf.named_parameters())[name]
        return float((dict(model.hf.named_parameters())[name] - exact).norm() / exact.norm())

    name = "model.layers.1.mlp.down_proj.weight"
    assert error(plain, name) < 0.15 < error(smoothed, name)


def test_scales_between_linear_layers_are_undone_in_a_layer_whose_norms_did_not_move(tiny_llama: Path) -> None:
    base, smoothed = models.load(tiny_llama), models.load(tiny_llama)
    weights, scales = smoothed.hf.state_dict(), torch.linspace(0.5, 2, 64)
    with torch.no_grad():
        weights["model.layers.0.input_layernorm.weight"] /= 1.5
        for name in ("q_proj", "k_proj", "v_proj"):
            weights[f"model.layers.0.self_attn.{name}.weight"] *= 1.5
        weights["model.layers.1.mlp.up_proj.weight"] /= scales[:, None]
        weights["model.layers.1.mlp.down_proj.weight"] *= scales
    for name, weight in unsmoothed(base, smoothed).hf.state_dict().items():
        torch.testing.assert_close(weight, base.hf.state_dict()[name], atol=1e-5, rtol=1e-5)


def test_biases_are_rescaled_with_their_rows() -> None:
    config = LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)
    torch.manual_seed(3)
    base = models.Model(LlamaForCausalLM(config).eval(), tiny_tokenizer(), "base", "base")
    with torch.no_grad():
        for name, parameter in base.hf.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    smoothed = replace(base, hf=copy.deepcopy(base.hf))
    weights = smoothed.hf.state_dict()
    with torch.no_grad():
        weights["model.layers.0.input_layernorm.weight"] /= 1.5
        for name in ("q_proj", "k_proj", "v_proj"):
            weights[f"model.layers.0.self_attn.{name}.weight"] *= 1.5
        for first, second, n in (("self_attn.v_proj", "self_attn.o_proj", 32), ("mlp.up_proj", "mlp.down_proj", 64)):
            scales = torch.linspace(0.5, 2, n)
            weights[f"model.layers.0.{first}.weight"] /= scales[:, None]
            weights[f"model.layers.0.{first}.bias"] /= scales
            weights[f"model.layers.0.{second}.weight"] *= scales
    for name, weight in unsmoothed(base, smoothed).hf.state_dict().items():
        torch.testing.assert_close(weight, base.hf.state_dict()[name], atol=1e-5, rtol=1e-5)


def test_a_norm_that_no_linear_layer_reads_carries_no_scales(tiny_gemma: Path) -> None:
    base, other = models.load(tiny_gemma), models.load(tiny_gemma)
    with torch.no_grad():
        other.hf.state_dict()["model.layers.0.post_attention_layernorm.weight"] += 0.5
    assert unsmoothed(base, other) is other


def test_a_model_that_was_not_rescaled_is_left_alone(tiny_llama: Path, tiny_neox: Path, tmp_path: Path) -> None:
    for folder in (tiny_llama, tiny_neox):
        base, rounded = models.load(folder), models.load(quantize(folder, Scheme("rtn", 2, 16), (), tmp_path))
        assert unsmoothed(base, rounded) is rounded


OTHERS = ("phi", "phi3", "cohere", "olmo3", "exaone4", "glm4", "gpt-neox", "opt", "bloom", "falcon", "lfm2", "mixtral")


def rescaled(base: models.Model) -> models.Model:
    """The same function with every link moved by factors of its own, as AWQ moves them."""
    hf = copy.deepcopy(base.hf)
    modules = dict(hf.named_modules())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for link in links(base.hf):
            scales = torch.exp(0.5 * torch.randn(link.n, generator=generator))
            for parameter in modules[link.first].parameters():
                parameter[-link.n :] /= scales[:, None] if parameter.ndim == 2 else scales
            for reader in link.readers:
                modules[reader].weight *= scales
    return replace(base, hf=hf)


@pytest.mark.parametrize("name", OTHERS)
def test_scales_are_undone_whatever_the_architecture(name: str) -> None:
    base = wrapped(name)
    smoothed = rescaled(base)
    torch.testing.assert_close(smoothed.hf(IDS).logits, base.hf(IDS).logits, atol=1e-3, rtol=1e-3)
    assert any(not torch.equal(a, b) for a, b in zip(base.hf.parameters(), smoothed.hf.parameters(), strict=True))
    for key, weight in unsmoothed(base, smoothed).hf.state_dict().items():
        torch.testing.assert_close(weight, base.hf.state_dict()[key], atol=1e-4, rtol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["olmo3", "exaone4"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_rounding_alone_is_never_taken_for_scales_where_no_norm_tells(name: str, bits: int) -> None:
    base = wrapped(name)
    other = replace(base, hf=copy.deepcopy(base.hf))
    with torch.no_grad():
        for module in linears(base.hf.config):
            weight = other.hf.get_submodule(module).weight
            weight.copy_(rounded(weight.detach(), Scheme("rtn", bits, -1)))
    assert unsmoothed(base, other) is other


def test_rounded_weights_of_a_fused_model_come_back_to_the_units_of_the_base(tmp_path: Path) -> None:
    folder = save(family("phi3"), tmp_path / "phi3")
    base = models.load(folder)
    made = models.load(quantize(folder, Scheme("awq", 4, 16), TEXT, tmp_path / "cache"))
    plain = unsmoothed(base, made)
    torch.testing.assert_close(plain.hf(IDS).logits, made.hf(IDS).logits, atol=1e-4, rtol=1e-4)
    exact, before, after = (dict(model.hf.named_parameters()) for model in (base, made, plain))
    for name in linears(base.hf.config):
        error, own = ((w[f"{name}.weight"] - exact[f"{name}.weight"]).norm() for w in (after, before))
        assert error < 0.15 * exact[f"{name}.weight"].norm() and error < own


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_row_gain_finds_the_factor(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    exact, gain = torch.randn(5, 8, generator=generator), torch.rand(5, generator=generator) + 0.1
    torch.testing.assert_close(row_gain(exact * gain[:, None], exact), gain)


def test_row_gain_never_turns_a_row_over() -> None:
    exact = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(row_gain(-exact, exact), torch.ones(3))
    assert torch.equal(row_gain(torch.zeros_like(exact), exact), torch.ones(3))


def test_norm_gain_of_a_norm_that_takes_the_mean_off_and_adds_a_bias() -> None:
    norm = torch.nn.LayerNorm(32)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 32))
        norm.bias.fill_(3.0)
    torch.testing.assert_close(norm_gain(norm), norm.weight.data, atol=1e-4, rtol=1e-4)


def test_norm_gain_of_both_conventions(tiny_llama: Path, tiny_gemma: Path) -> None:
    llama, gemma = models.load(tiny_llama).hf.model.norm, models.load(tiny_gemma).hf.model.norm
    torch.testing.assert_close(norm_gain(llama), llama.weight.data, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm_gain(gemma), 1 + gemma.weight.data, atol=1e-4, rtol=1e-4)
