"""Do two configurations describe the same function? Every setting that changes it is compared, and named if it differs.

Weights may be in order and the model still another one: rotary embeddings with another base, heads cut differently, a
norm with another epsilon. Such a setting stands in config.json alone, and no weight shows it.
"""

from typing import Any

from transformers import PretrainedConfig

NO_FUNCTION = {
    "_name_or_path", "architectures", "attention_dropout", "auto_map", "bos_token_id", "chunk_size_feed_forward",
    "classifier_dropout", "dtype", "embd_pdrop", "attn_pdrop", "eos_token_id", "hidden_dropout", "id2label",
    "initializer_factor", "initializer_range", "is_encoder_decoder", "label2id", "output_attentions",
    "output_hidden_states", "output_router_logits", "pad_token_id", "pretraining_tp", "problem_type",
    "quantization_config", "resid_pdrop", "return_dict", "router_aux_loss_coef", "router_jitter_noise",
    "sep_token_id", "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache", "_attn_implementation",
    "attention_probs_dropout_prob", "hidden_dropout_prob", "summary_type", "gradient_checkpointing",
    "decoder_start_token_id", "max_position_embeddings",
}  # fmt: skip
"""Settings that change no output of a model that only reads: names, training, output formats, special tokens. Whether
the head is tied shows in its weights, which are compared; how long an input may be changes no shorter one."""

SHAPES = ("num_attention_heads", "num_key_value_heads", "head_dim", "num_hidden_layers")
"""Settings with which the inside of two models cannot be compared if they differ."""


def settings_of(config: PretrainedConfig) -> dict[str, Any]:
    """The settings that change the function, nested ones flat: `{"rms_norm_eps": 1e-05, "rope_parameters.rope_theta":
    10000.0, ...}`.
    """
    known = _known(type(config)) - NO_FUNCTION
    return dict(_flat("", {name: value for name, value in config.to_dict().items() if name in known}))


def _known(kind: type[PretrainedConfig]) -> set[str]:
    """Settings that the code of this architecture reads; a file may hold others, which change nothing."""
    return {name for name in kind().to_dict() if not name.startswith("_")}


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        whole = f"{prefix}{name}"
        found += _flat(f"{whole}.", value) if isinstance(value, dict) else [(whole, value)]
    return found


def differences(base: PretrainedConfig, quantized: PretrainedConfig) -> dict[str, str]:
    """A sentence for every setting that differs, by its name."""
    mine, theirs = settings_of(base), settings_of(quantized)
    return {
        name: f"config.json: {name} is {theirs.get(name)!r}, the base's {mine.get(name)!r}"
        for name in dict.fromkeys([*mine, *theirs])
        if mine.get(name) != theirs.get(name)
    }
