"""What reads what inside a decoder layer is found whatever its modules are called."""

import pytest
from families import FAMILIES, family

from quantcliff.quantizers import links

GATED = {("v_proj", "o_proj"), ("up_proj", "down_proj"), ("input_layernorm", "q_proj k_proj v_proj"),
         ("post_attention_layernorm", "gate_proj up_proj")}  # fmt: skip
SHARED = GATED - {("v_proj", "o_proj")}
EXPECTED = {
    "llama": GATED,
    "llama, shared heads": SHARED,
    "gemma2": GATED - {("post_attention_layernorm", "gate_proj up_proj")}
    | {("pre_feedforward_layernorm", "gate_proj up_proj")},
    "phi3": {("qkv_proj", "o_proj"), ("gate_up_proj", "down_proj"), ("input_layernorm", "qkv_proj"),
             ("post_attention_layernorm", "gate_up_proj")},
    "cohere": {("v_proj", "o_proj"), ("up_proj", "down_proj"),
               ("input_layernorm", "q_proj k_proj v_proj gate_proj up_proj")},
    "olmo3": {("v_proj", "o_proj"), ("up_proj", "down_proj")},
    "exaone4": {("v_proj", "o_proj"), ("up_proj", "down_proj")},
    "gpt-neox": {("input_layernorm", "query_key_value"), ("post_attention_layernorm", "dense_h_to_4h")},
    "opt": {("v_proj", "out_proj"), ("fc1", "fc2"), ("self_attn_layer_norm", "q_proj k_proj v_proj"),
            ("final_layer_norm", "fc1")},
    "falcon": {("input_layernorm", "query_key_value dense_h_to_4h")},
    "gpt2": set(),
}  # fmt: skip


def found_in(name: str, layer: int) -> set[tuple[str, str]]:
    found = [link for link in links(family(name)) if f".{layer}." in link.first]
    return {(link.first.split(".")[-1], " ".join(one.split(".")[-1] for one in link.readers)) for link in found}


@pytest.mark.parametrize("name", EXPECTED)
def test_links_of_an_architecture(name: str) -> None:
    assert found_in(name, 0) == found_in(name, 2) == EXPECTED[name]


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe", "gpt-oss"])
def test_a_norm_that_a_router_and_experts_read_too_has_no_link(name: str) -> None:
    assert "post_attention_layernorm" not in dict(found_in(name, 1))
    assert dict(found_in(name, 1))["input_layernorm"] == "q_proj k_proj v_proj"


def test_layers_of_two_kinds_have_links_of_their_own() -> None:
    assert ("in_proj", "out_proj") in found_in("lfm2", 0)
    assert ("operator_norm", "q_proj k_proj v_proj") in found_in("lfm2", 1)


@pytest.mark.parametrize("name", ["llama", "phi3", "cohere", "opt", "lfm2"])
def test_half_precision_finds_the_same(name: str) -> None:
    assert links(family(name).bfloat16()) == links(family(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_is_left_as_it_was(name: str) -> None:
    hf = family(name)
    before = {key: value.clone() for key, value in hf.state_dict().items()}
    links(hf)
    assert all(value.equal(before[key]) for key, value in hf.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())
