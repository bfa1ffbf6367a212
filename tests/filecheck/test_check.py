"""The whole file: each kind of fault that public bug reports tell of is named, and what is healthy is left alone.

The right values are those of the reports; the model is the embedded one, changed in memory.
"""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, MixtralForCausalLM

from quantcliff import models
from quantcliff.filecheck import Findings, beside, check, inspect, modules, parameters, settings
from quantcliff.models import Model
from quantcliff.probes import facts

MODULES = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
NAMES = [f"model.layers.{layer}.{module}" for layer in range(8) for module in MODULES]

Edit = Callable[[str, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(scope="module")
def base() -> Model:
    return models.load("atlas")


@pytest.fixture(scope="module")
def prompts(base: Model) -> list[list[int]]:
    return facts.probe(facts.load("atlas", n_facts=40), base.tokenizer).input_ids


def grid(w: Tensor, bits: int, size: int, sym: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (rows, groups, size), scales and zero points (rows, groups, 1) of plain rounding."""
    x = w.double().reshape(len(w), -1, size)
    low, high, top = x.amin(-1, True).clamp(max=0), x.amax(-1, True).clamp(min=0), 2**bits - 1
    if sym:
        low, high = -torch.maximum(-low, high), torch.maximum(-low, high)
    scale = (high - low) / top
    zero = torch.full_like(scale, 2 ** (bits - 1)) if sym else (-low / scale).round()
    return (x / scale + zero).round().clamp(0, top), scale, zero


def copied(model: Model, state: dict[str, Tensor] | None = None, **config: object) -> Model:
    """A copy with other weights, or of another configuration."""
    hf = copy.deepcopy(model.hf)
    if config:
        changed = copy.deepcopy(model.hf.config)
        changed.update(config)
        hf = AutoModelForCausalLM.from_config(changed, dtype=torch.float32).eval().requires_grad_(False)
        state = model.hf.state_dict() | (state or {})
    hf.load_state_dict(state or {}, strict=False)
    return replace(model, hf=hf)


def rounded(model: Model, edit: Edit = lambda name, *grid: grid, bits: int = 4, sym: bool = False) -> Model:
    """Every linear layer rounded in groups of 32; `edit` may spoil codes, scales or zero points."""
    state = model.hf.state_dict()
    for name in NAMES:
        weight = state[f"{name}.weight"]
        codes, scale, zero = edit(name, *grid(weight, bits, 32, sym))
        state[f"{name}.weight"] = ((codes - zero) * scale).reshape(weight.shape).float()
    return copied(model, state)


def found(base: Model, quantized: Model, prompts: list[list[int]], bits: int = 4, sym: bool = False) -> Findings:
    stated = {"bits": bits, "group_size": 32, "symmetric": sym, "mixed": False}
    return check(base, quantized, Path(models.folder_of("atlas")), inspect(base, quantized, stated, prompts), prompts)


def places(findings: Findings) -> set[str]:
    return {sentence.split(":")[0] for sentence in findings.faults}


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("sym", [False, True])
def test_a_healthy_file_is_clean_and_the_report_says_what_was_looked_at(base, prompts, bits, sym):
    findings = found(base, rounded(base, bits=bits, sym=sym), prompts, bits, sym)
    assert findings == Findings(checked=findings.checked)
    assert re.fullmatch(r"56 of 56 modules, 17 of 17 norms, embeddings, (\d+) of \1 settings", findings.checked), (
        findings.checked
    )


def test_a_lost_bias(base, prompts):
    hf = AutoModelForCausalLM.from_config(LlamaConfig(**(base.hf.config.to_dict() | {"attention_bias": True})))
    state = base.hf.state_dict()
    for layer in range(8):
        p = f"model.layers.{layer}.self_attn."
        v = torch.randn(64, generator=torch.Generator().manual_seed(layer))
        state |= {p + "q_proj.bias": torch.zeros(128), p + "k_proj.bias": torch.zeros(64), p + "v_proj.bias": v}
        state[p + "o_proj.bias"] = -state[p + "o_proj.weight"] @ v.reshape(2, 1, 32).repeat(1, 2, 1).flatten()
    hf.load_state_dict(state)
    biased = replace(base, hf=hf.eval().requires_grad_(False))
    lost = rounded(biased, bits=8)
    with torch.no_grad():
        lost.hf.model.layers[3].self_attn.v_proj.bias.zero_()
    findings = found(biased, lost, prompts, 8)
    assert findings.faults == ("layer 3, self_attn.v_proj.bias: is zero everywhere, the base's is not",)
    assert "31 of 32 biases" in findings.checked
    assert not found(biased, rounded(biased, bits=8), prompts, 8).faults


def test_a_head_whose_rows_are_one_token_off(base, prompts):
    untied = copied(base, {"lm_head.weight": base.hf.lm_head.weight.clone()}, tie_word_embeddings=False)
    shifted = rounded(untied, bits=8)
    with torch.no_grad():
        shifted.hf.lm_head.weight.copy_(untied.hf.lm_head.weight.roll(1, 0))
    findings = found(untied, shifted, prompts, 8)
    assert places(findings) == {"lm_head.weight"}
    assert "row 1: that of row 0" in findings.faults[0]
    assert not findings.origin
    assert "head" in found(untied, rounded(untied, bits=8), prompts, 8).checked


def test_embedding_rows_of_other_tokens(base, prompts):
    quantized = rounded(base, bits=8)
    rows = torch.randperm(4096, generator=torch.Generator().manual_seed(0))[:300]
    weight = quantized.hf.get_input_embeddings().weight
    with torch.no_grad():
        weight.copy_(weight.index_copy(0, rows, weight[rows.roll(1)]))
    findings = found(base, quantized, prompts, 8)
    assert places(findings) == {"model.embed_tokens.weight"}
    assert "hold other rows of the base" in findings.faults[0]


@pytest.mark.parametrize("change", [torch.ones_like, lambda weight: weight + 1, lambda weight: -weight])
def test_a_norm_that_nothing_makes_up_for(base, prompts, change):
    quantized = rounded(base, bits=8)
    norm = quantized.hf.model.layers[2].input_layernorm
    with torch.no_grad():
        norm.weight.copy_(change(norm.weight))
    findings = found(base, quantized, prompts, 8)
    assert places(findings) == {"layer 2, input_layernorm.weight"}
    assert "16 of 17 norms" in findings.checked


def smoothed(base: Model, leave_out: tuple[str, ...] = ()) -> Model:
    """Norms divided by scales, the layers that read them multiplied."""
    state, draw = base.hf.state_dict(), torch.Generator().manual_seed(7)
    for layer in range(8):
        p, scales = f"model.layers.{layer}.", torch.exp(0.5 * torch.randn(128, generator=draw))
        state[p + "post_attention_layernorm.weight"] = state[p + "post_attention_layernorm.weight"] / scales
        for module in ("mlp.gate_proj", "mlp.up_proj"):
            if p + module not in leave_out:
                state[f"{p}{module}.weight"] = state[f"{p}{module}.weight"] * scales
    return copied(base, state)


@pytest.mark.parametrize("bits", [8, 4])
def test_smoothing_of_one_side_only(base, prompts, bits):
    half = rounded(smoothed(base, ("model.layers.3.mlp.up_proj",)), bits=bits)
    assert places(found(base, half, prompts, bits)) == {"layer 3, mlp.up_proj"}
    assert not found(base, rounded(smoothed(base), bits=bits), prompts, bits).faults


def test_zero_points_in_the_packing_order_of_another_format(base, prompts):
    def edit(name, codes, scale, zero):
        order = torch.arange(len(zero)).reshape(-1, 8)[:, [0, 2, 4, 6, 1, 3, 5, 7]].flatten()
        return codes, scale, zero[order] if every or name == "model.layers.4.mlp.gate_proj" else zero

    every = False
    findings = found(base, rounded(base, edit), prompts)
    assert places(findings) == {"layer 4, mlp.gate_proj"}
    assert "wrong zero point" in findings.faults[0]
    every = True
    findings = found(base, rounded(base, edit), prompts)
    assert len(places(findings)) == 56
    assert not findings.origin


def test_transposed_scales_of_a_symmetric_file(base, prompts):
    def edit(name, codes, scale, zero):
        return codes, scale[..., 0].T.reshape(scale.shape) if ".5." in name else scale, zero

    findings = found(base, rounded(base, edit, sym=True), prompts, sym=True)
    assert places(findings) == {f"layer 5, {module}" for module in MODULES}
    assert all("wrong scale" in sentence for sentence in findings.faults)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_model_made_from_a_finetune(base, prompts, bits):
    state, draw = base.hf.state_dict(), torch.Generator().manual_seed(5)
    for name in NAMES:
        w = state[f"{name}.weight"]
        d = torch.randn(len(w), 4, generator=draw) @ torch.randn(4, w.shape[1], generator=draw)
        state[f"{name}.weight"] = w + d * (0.1 * w.norm() / d.norm())
    findings = found(base, rounded(copied(base, state), bits=bits), prompts, bits)
    assert "not made from atlas" in findings.origin and "finetune" in findings.origin
    assert findings.faults == ()


def test_a_setting_that_differs_is_named(base, prompts):
    rope = copied(base, rope_parameters={"rope_theta": 1000.0, "rope_type": "default"})
    findings = found(base, rounded(rope, bits=8), prompts, 8)
    assert findings.faults == ("config.json: rope_parameters.rope_theta is 1000.0, the base's 10000.0",)
    assert findings.comparable
    heads = copied(base, num_attention_heads=8, num_key_value_heads=4, head_dim=16)
    findings = found(base, rounded(heads, bits=8), prompts, 8)
    assert [sentence.split()[1] for sentence in findings.faults] == [
        "num_attention_heads", "num_key_value_heads", "head_dim"
    ]  # fmt: skip
    assert not findings.comparable


@pytest.mark.parametrize(
    ("setting", "value"),
    [("rms_norm_eps", 0.1), ("hidden_activation", "silu"), ("sliding_window", 7), ("final_logit_softcapping", 3.0)],
)
def test_settings_that_change_the_function(setting, value):
    from transformers import Gemma2Config

    one, other = Gemma2Config(), Gemma2Config(**{setting: value})
    assert set(settings.differences(one, other)) == {setting}
    assert not settings.differences(one, Gemma2Config(use_cache=False, bos_token_id=7, initializer_range=0.5))
    noted = Gemma2Config()
    noted.update({"_model_name_or_path": "somewhere", "a_note_of_some_tool": 1})
    assert not settings.differences(one, noted)


@pytest.fixture(scope="module")
def mixture(base: Model) -> Model:
    """A mixture of four experts, each the FFN of the embedded model."""
    keep = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
            "num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "rope_parameters")  # fmt: skip
    known = base.hf.config.to_dict()
    config = MixtralConfig(**{name: known[name] for name in keep}, num_local_experts=4, num_experts_per_tok=2)
    hf, state = MixtralForCausalLM(config), base.hf.state_dict()
    for layer in range(8):
        p = f"model.layers.{layer}.mlp."
        both = torch.cat([state.pop(p + "gate_proj.weight"), state.pop(p + "up_proj.weight")])
        state[p + "experts.gate_up_proj"] = both.repeat(4, 1, 1)
        state[p + "experts.down_proj"] = state.pop(p + "down_proj.weight").repeat(4, 1, 1)
        state[p + "gate.weight"] = 0.3 * torch.randn(4, 128, generator=torch.Generator().manual_seed(layer))
    hf.load_state_dict(state)
    return replace(base, hf=hf.eval().requires_grad_(False))


def test_experts_are_looked_at_one_by_one(mixture, prompts):
    quantized = copied(mixture, mixture.hf.state_dict())
    for parameter in quantized.hf.parameters():
        if parameter.ndim == 3:
            for matrix in parameter.data:
                codes, scale, zero = grid(matrix, 4, 32, False)
                matrix.copy_(((codes - zero) * scale).reshape(matrix.shape))
    assert not found(mixture, quantized, prompts).faults
    assert "96 of 96 modules" in found(mixture, quantized, prompts).checked
    with torch.no_grad():
        quantized.hf.model.layers[3].mlp.experts.down_proj[2] *= 4
    findings = found(mixture, quantized, prompts)
    assert places(findings) == {"layer 3, mlp.experts.down_proj.2"}
    assert "wrong scale" in findings.faults[0]


def test_smoothing_of_a_mixture_is_no_fault(mixture, prompts):
    state = mixture.hf.state_dict()
    for layer in range(8):
        scales = torch.exp(0.5 * torch.randn(128, generator=torch.Generator().manual_seed(layer)))
        p = f"model.layers.{layer}."
        state[p + "input_layernorm.weight"] = state[p + "input_layernorm.weight"] / scales
        for module in MODULES[:3]:
            weight = state[f"{p}{module}.weight"] * scales
            codes, scale, zero = grid(weight, 4, 32, False)
            state[f"{p}{module}.weight"] = ((codes - zero) * scale).reshape(weight.shape).float()
    assert not found(mixture, copied(mixture, state), prompts).faults


def with_inputs(folder: Path, scale: float, **more: object) -> Path:
    """A folder that states 8-bit inputs with this scale everywhere; only what `beside` reads is in it."""
    folder.mkdir()
    args = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False, "strategy": "tensor"}
    stated = {"quant_method": "compressed-tensors", "config_groups": {"g": {"input_activations": args | more}}}
    (folder / "config.json").write_text(json.dumps({"quantization_config": stated}))
    save_file({f"{name}.input_scale": torch.tensor([scale]) for name in NAMES}, folder / "model.safetensors")
    return folder


def test_scales_of_inputs_are_held_against_real_inputs(base, prompts, tmp_path):
    for scale, n_faults in ((5e-5, 56), (0.05, 0), (100.0, 56)):
        folder = with_inputs(tmp_path / str(scale), scale)
        sentences = list(beside.input_scale_faults(base, folder, prompts))
        assert len(sentences) == n_faults
        assert all("activations" in sentence for sentence in sentences)
        (left,) = beside.left_out(folder)
        assert "activations are quantized too" in left and "8 bits" in left
    moving = with_inputs(tmp_path / "dynamic", 5e-5, dynamic=True)
    assert not list(beside.input_scale_faults(base, moving, prompts))
    assert beside.left_out(moving)


def test_a_quantized_cache_is_said_to_be_left_out(tmp_path):
    folder = with_inputs(tmp_path / "cache", 1.0)
    scheme = {"num_bits": 8, "type": "float"}
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"kv_cache_scheme": scheme}}))
    assert ["cache of keys and values" in sentence for sentence in beside.left_out(folder)] == [True]


def test_half_precision_is_the_bases_own():
    mine = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert parameters._numbers(mine, mine.bfloat16().float()) == ""
    assert parameters._numbers(mine, mine.half().float()) == ""
    assert "1 of its 1,000 numbers" in parameters._numbers(mine, mine.index_fill(0, torch.tensor([5]), 9.0))


def test_a_module_whose_output_is_far_off_is_at_fault_without_a_cause(base, prompts):
    quantized = rounded(base)
    weight = quantized.hf.model.layers[6].mlp.down_proj.weight
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weight.add_(noise * 0.3 * weight.norm() / noise.norm())
    findings = found(base, quantized, prompts)
    assert places(findings) == {"layer 6, mlp.down_proj"}
    assert modules.KINDS["error"] in findings.faults[0]
    assert not findings.origin
