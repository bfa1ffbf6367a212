"""In: a model and prompts. Out: activations on disk, scores of answers, and what edits and relays make of them."""

from quantcliff.tracing.interventions import (
    SETTERS,
    Patch,
    generic_patch,
    own_stream,
    patch_attn_out,
    patch_mlp_out,
    patch_resid_post,
    plan,
    sweep,
)
from quantcliff.tracing.recording import asked_layers
from quantcliff.tracing.relays import PROMPTS_AT_ONCE, Streams, depths, ranks, relay
from quantcliff.tracing.runner import SITES, Edit, Runner, site
from quantcliff.tracing.trace import (
    Asked,
    Batch,
    Positions,
    Trace,
    batches,
    divergence,
    likeliest,
    rank_of,
    score,
    score_logits,
    score_streams,
)

__all__ = [
    "PROMPTS_AT_ONCE",
    "SETTERS",
    "SITES",
    "Asked",
    "Batch",
    "Edit",
    "Patch",
    "Positions",
    "Runner",
    "Streams",
    "Trace",
    "asked_layers",
    "batches",
    "depths",
    "divergence",
    "generic_patch",
    "likeliest",
    "own_stream",
    "patch_attn_out",
    "patch_mlp_out",
    "patch_resid_post",
    "plan",
    "rank_of",
    "ranks",
    "relay",
    "score",
    "score_logits",
    "score_streams",
    "site",
    "sweep",
]
