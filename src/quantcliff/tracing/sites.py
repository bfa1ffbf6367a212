"""Named points in the network, by TransformerLens' hook names."""

from transformer_lens.model_bridge import TransformerBridge

SITES = {
    "resid_pre": "hook_resid_pre",
    "attn_in": "attn.hook_in",
    "pattern": "attn.hook_pattern",
    "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "mlp_in": "mlp.hook_in",
    "gate": "mlp.hook_pre",
    "up": "mlp.hook_pre_linear",
    "post": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}
"""Kind of site -> TransformerLens hook name inside a block, in the order they are computed.

`gate` is what goes into the FFN's nonlinearity: the gate projection, or the pre-activation where the FFN has no gate.
`post` is the input of the down projection. Shapes: pattern (batch, head, query, key); gate, up, post (batch, pos,
d_ffn); all others (batch, pos, d_model).
"""


def site(kind: str, layer: int) -> str:
    """Full hook name, e.g. `site("resid_post", 3) == "blocks.3.hook_resid_post"`."""
    return f"blocks.{layer}.{SITES[kind]}"


def drop_expert_aliases(bridge: TransformerBridge) -> bool:
    """TransformerLens calls the input of a mixture of experts its `hook_pre` and the output its `hook_post`, which are
    an expert's own tensors elsewhere; here a site is what it is called, or it is not there. Whether there were any.
    """
    found = False
    mapping = bridge.adapter.component_mapping
    assert mapping
    blocks = mapping["blocks"].submodules
    for layer, mlp in enumerate(getattr(block, "mlp", None) for block in bridge.blocks):
        aliases = getattr(mlp, "hook_aliases", {})
        for name, real in {"hook_pre": "hook_in", "hook_post": "hook_out"}.items():
            if mlp is not None and aliases.get(name) == real:
                found = True
                bridge._hook_registry.pop(f"blocks.{layer}.mlp.{name}", None)
                for owner in (mlp, blocks.get("mlp", mlp)):
                    owner.hook_aliases = {key: to for key, to in owner.hook_aliases.items() if key != name}
    return found
