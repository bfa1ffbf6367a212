"""Interventions: run one model with activations of another put in its place.

While the *recipient* runs, an activation of the *donor* replaces its own at some layers and some tokens, and the rest
of the recipient computes on. There is one core, `patch_together`, with a thin named setter for each kind of activation
(after TransformerLens' `patching.py`). What lies before a patch cannot feel it, so only the part of the recipient
after it is run, and patches that leave the same blocks to do share a run. `sweeping.sweep` makes many `Patch`es on a
prompt set.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache

from quantcliff.probes import POSITIONS
from quantcliff.tracing.past import take
from quantcliff.tracing.runner import Edit, Runner, site


def own_stream(
    recipient: Runner, ids: Int[Tensor, "batch pos"], last: Int[Tensor, " batch"], past: Cache | None = None
) -> Float[Tensor, "depth batch pos d_model"]:
    """The unpatched recipient's residual stream entering every block and leaving the last; depth = n_layers + 1.

    With `past`, `ids` and `last` are of the tokens that follow it; it is left as it is.
    """
    names = [site("resid_pre", layer) for layer in range(recipient.n_layers)]
    names.append(site("resid_post", recipient.n_layers - 1))
    before = None if past is None else take(past, torch.arange(len(ids), device=recipient.device))
    _, seen = recipient.run(ids, record=names, last=last, past=before)
    return torch.stack([seen[name] for name in names])


@dataclass(frozen=True)
class Change:
    """One intervention made ready for some prompts of a batch."""

    kind: str
    """Which activation: key of `SETTERS`."""
    layers: range
    rows: Int[Tensor, " row"]
    """Which prompts of the batch."""
    where: Bool[Tensor, "row pos"]
    """The tokens to patch, a ragged set: each prompt of the (right-padded) batch may have its own."""
    donor: Float[Tensor, "token layer d_model"]
    """The donor's activations of that kind for these tokens, in the order in which `where` counts them, at all
    n_layers layers."""

    @property
    def first(self) -> int:
        """The first block that the patch leaves something to do."""
        return self.layers[0] + (self.kind == "resid_post")

    def put(self, layer: int, own: Float[Tensor, "row pos d_model"]) -> None:
        """Set the donor's activations of one layer in place."""
        own[self.where] = self.donor[:, layer].to(own)


def patch_together(
    recipient: Runner,
    stream: Float[Tensor, "depth batch pos d_model"],
    changes: Sequence[Change],
    last: Int[Tensor, " batch"],
    past: Cache | None = None,
) -> list[Float[Tensor, "_ vocab"]]:
    """The recipient's logits at the last tokens of the patched prompts, for each of the changes, in one run.

    Only what follows is computed, in layers and in tokens: from the first block that a patch leaves something to do,
    and behind the tokens that `past` remembers. Nothing before a patch is changed by it, so that the recipient's own
    recorded `stream` stands in for it.

    Args:
        stream: of the recipient on the same batch, from `own_stream`.
        changes: all with the same first block.
        last: position of each prompt's last token.
        past: the recipient's, of the tokens before those of `stream`.
    """
    first, rows = changes[0].first, torch.cat([change.rows for change in changes])
    ends = np.cumsum([len(change.rows) for change in changes]).tolist()
    parts = [slice(end - len(change.rows), end) for end, change in zip(ends, changes, strict=True)]
    start = stream[first][rows]
    later: dict[str, list[tuple[int, int]]] = {}
    for number, change in enumerate(changes):
        for layer in change.layers:
            if change.kind == "resid_post" and layer < first:
                change.put(layer, start[parts[number]])
            else:
                later.setdefault(site(change.kind, layer), []).append((number, layer))

    def setter(puts: list[tuple[int, int]]) -> Edit:
        def put(own: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
            new = own.clone()
            for number, layer in puts:
                changes[number].put(layer, new[parts[number]])
            return new

        return put

    edits = {name: setter(puts) for name, puts in later.items()}
    before = None if past is None else take(past, rows, first)
    logits, _ = recipient.run(start, edits=edits, start_layer=first, last=last[rows.cpu()], past=before)
    return list(logits.split([len(change.rows) for change in changes]))


def generic_patch(
    recipient: Runner,
    stream: Float[Tensor, "depth batch pos d_model"],
    layers: range,
    where: Bool[Tensor, "batch pos"],
    donor: Float[Tensor, "token layer d_model"],
    last: Int[Tensor, " batch"],
    *,
    kind: str,
) -> Float[Tensor, "batch vocab"]:
    """`patch_together` of one `Change`, on every prompt of the batch."""
    every = torch.arange(stream.shape[1], device=stream.device)
    return patch_together(recipient, stream, [Change(kind, layers, every, where, donor)], last)[0]


patch_resid_post = partial(generic_patch, kind="resid_post")
"""`generic_patch` of the residual stream after each of `layers`."""

patch_attn_out = partial(generic_patch, kind="attn_out")
"""`generic_patch` of what attention adds to the stream in each of `layers`."""

patch_mlp_out = partial(generic_patch, kind="mlp_out")
"""`generic_patch` of what the FFN adds to the stream in each of `layers`."""

SETTERS = {"resid_post": patch_resid_post, "attn_out": patch_attn_out, "mlp_out": patch_mlp_out}
"""The kinds of activation that can be replaced, and how."""


@dataclass(frozen=True, order=True)
class Patch:
    """One intervention, to be made on every prompt.

    Attributes:
        kind: key of `SETTERS`.
        positions: which tokens, one of `POSITIONS`.
        donor: "same" (the donor model reads the same prompt) or "other" (it reads another fact's: the control).
        window: how many layers in a row are patched.
        layer: the first of them.
    """

    kind: str
    positions: str
    donor: str
    window: int
    layer: int

    @property
    def layers(self) -> range:
        return range(self.layer, self.layer + self.window)


def plan(
    n_layers: int,
    kinds: Collection[str] = tuple(SETTERS),
    positions: Collection[str] = POSITIONS,
    donors: Collection[str] = ("same",),
    window: int = 1,
) -> list[Patch]:
    """Every combination, at every place where the window fits.

    >>> len(plan(8)), len(plan(8, ["mlp_out"], ["all"], window=3))
    (96, 6)
    """
    places = range(n_layers - window + 1)
    return [Patch(k, p, d, window, layer) for k in kinds for p in positions for d in donors for layer in places]
