"""Small random models of many architectures: three layers, width 32, vocabulary 320."""

from collections.abc import Callable

import torch
import transformers as hf
from tiny import SIZES, tiny_tokenizer
from transformers import PreTrainedModel

from quantcliff.models import Model

PLAIN = SIZES | {"initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0}
HEADS = PLAIN | {"num_key_value_heads": 4, "pad_token_id": 0}
SHARED = HEADS | {"num_key_value_heads": 2}
EXPERTS = SHARED | {"num_experts_per_tok": 2}
FULL = ["full_attention"] * 3
OLD = {"vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0}

FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**HEADS)),
    "llama, shared heads": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SHARED)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**SHARED)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SHARED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**SHARED, head_dim=8)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**SHARED, head_dim=8)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**HEADS, head_dim=8, query_pre_attn_scalar=8)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(**SHARED, head_dim=8, query_pre_attn_scalar=8, sliding_window=64, layer_types=FULL)
    ),
    "gpt-neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**PLAIN)),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**HEADS)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**HEADS)),
    "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**HEADS)),
    "olmo3": lambda: hf.Olmo3ForCausalLM(hf.Olmo3Config(**HEADS)),
    "granite": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**SHARED)),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**HEADS)),
    "glm4": lambda: hf.Glm4ForCausalLM(hf.Glm4Config(**SHARED, head_dim=8)),
    "stablelm": lambda: hf.StableLmForCausalLM(hf.StableLmConfig(**SHARED)),
    "smollm3": lambda: hf.SmolLM3ForCausalLM(hf.SmolLM3Config(**SHARED)),
    "exaone4": lambda: hf.Exaone4ForCausalLM(hf.Exaone4Config(**HEADS, sliding_window=None, layer_types=FULL)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(**OLD, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_dim=64, pad_token_id=1,
                     word_embed_proj_dim=32, max_position_embeddings=128, init_std=0.2)
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(**OLD, n_embd=32, n_layer=3, n_head=4, n_positions=128, initializer_range=0.2)
    ),
    "bloom": lambda: hf.BloomForCausalLM(
        hf.BloomConfig(**OLD, pad_token_id=0, hidden_size=32, n_layer=3, n_head=4, initializer_range=0.2)
    ),
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(**OLD, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, initializer_range=0.2)
    ),
    "lfm2": lambda: hf.Lfm2ForCausalLM(
        hf.Lfm2Config(**SHARED, layer_types=["conv", "full_attention", "conv"], block_auto_adjust_ff_dim=False)
    ),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**EXPERTS, num_local_experts=4)),
    "qwen3-moe": lambda: hf.Qwen3MoeForCausalLM(
        hf.Qwen3MoeConfig(**EXPERTS, head_dim=8, num_experts=4, moe_intermediate_size=32)
    ),
    "gpt-oss": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(**EXPERTS, head_dim=8, num_local_experts=4, layer_types=FULL,
                        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    ),
}  # fmt: skip
"""By what people call them."""

MIXTURES = ("mixtral", "qwen3-moe", "gpt-oss")


def family(name: str) -> PreTrainedModel:
    """A model of the family in evaluation mode, the same at every call; its norms have gains that differ."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval().requires_grad_(False)
    for parameter, weight in model.named_parameters():
        if weight.ndim == 1 and parameter.endswith("weight"):
            weight.add_(0.3 * torch.rand_like(weight))
    return model


def wrapped(name: str) -> Model:
    """The same with a tokenizer."""
    return Model(family(name), tiny_tokenizer(), name, name)
