"""In: a model and prompts. Out: activations on disk, scores of answers, and what edits and relays make of them."""

from quantcliff.tracing.interventions import (
    SETTERS,
    Change,
    Patch,
    generic_patch,
    own_stream,
    patch_attn_out,
    patch_mlp_out,
    patch_resid_post,
    patch_together,
    plan,
)
from quantcliff.tracing.recording import asked_layers
from quantcliff.tracing.relays import PROMPTS_AT_ONCE, Streams, chain, depths, one_at_a_time, ranks, relay
from quantcliff.tracing.runner import SITES, Edit, Runner, site
from quantcliff.tracing.sweeping import sweep
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
    "Change",
    "Edit",
    "Patch",
    "Positions",
    "Runner",
    "Streams",
    "Trace",
    "asked_layers",
    "batches",
    "chain",
    "depths",
    "divergence",
    "generic_patch",
    "likeliest",
    "one_at_a_time",
    "own_stream",
    "patch_attn_out",
    "patch_mlp_out",
    "patch_resid_post",
    "patch_together",
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
