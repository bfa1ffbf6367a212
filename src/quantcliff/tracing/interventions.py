"""Interventions: run one model with activations of another put in its place.

While the *recipient* runs, an activation of the *donor* replaces its own at some layers and some tokens, and the rest
of the recipient computes on. There is one core, `generic_patch`, with a thin named setter for each kind of activation
(after TransformerLens' `patching.py`); `sweep` makes many `Patch`es on a prompt set. What lies before a patch cannot
feel it, so only the part of the recipient after it is run.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from quantcliff.probes import POSITIONS, Probes, aligned, inside, spans
from quantcliff.tracing.runner import Edit, Runner, site
from quantcliff.tracing.trace import Trace, batches, score_logits


def own_stream(
    recipient: Runner, ids: Int[Tensor, "batch pos"], last: Int[Tensor, " batch"]
) -> Float[Tensor, "depth batch pos d_model"]:
    """The unpatched recipient's residual stream entering every block and leaving the last; depth = n_layers + 1."""
    names = [site("resid_pre", layer) for layer in range(recipient.n_layers)]
    names.append(site("resid_post", recipient.n_layers - 1))
    _, seen = recipient.run(ids, record=names, last=last)
    return torch.stack([seen[name] for name in names])


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
    """The recipient's logits at each prompt's last token with the activation `kind` replaced in `layers`.

    Only what follows is computed: from the block of the first patched layer, and for `resid_post` from the one after
    it. Nothing before a patch is changed by it, so that the recipient's own recorded `stream` stands in for it.

    Args:
        stream: of the recipient on the same batch, from `own_stream`.
        where: the tokens to patch, a ragged set: each prompt of the (right-padded) batch may have its own.
        donor: the donor's activations of that kind for these tokens, in the order in which `where` counts them, at
            all n_layers layers.
        last: position of each prompt's last token.
    """

    def setter(layer: int) -> Edit:
        def put(own: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
            new = own.clone()
            new[where] = donor[:, layer].to(own)
            return new

        return put

    setters, first = {layer: setter(layer) for layer in layers}, layers[0]
    start = stream[first]
    if kind == "resid_post":
        start = setters.pop(first)(stream[first + 1])
        first += 1
    edits = {site(kind, layer): put for layer, put in setters.items()}
    return recipient.run(start, edits=edits, start_layer=first, last=last)[0]


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


def sweep(
    recipient: Runner,
    donor: Trace,
    probes: Probes,
    rows: Int[np.ndarray, " chosen"],
    partner: Int[np.ndarray, " prompt"],
    patches: Sequence[Patch],
    size: int = 64,
) -> pd.DataFrame:
    """Make every patch on the prompts `rows` of `probes`.

    Args:
        donor: the other model's activations of all kinds patched, at all tokens of all `probes`.
        partner: from `other_facts`; -1 where a prompt has none.

    Returns:
        One row per patch and prompt it applies to (it does not where the prompt has no such tokens or no partner):
        `prompt` (number in `probes`), the fields of the patch, and `rank` and `probability` of the answer.
    """
    asked = sorted(patches)
    number = {patch: row for row, patch in enumerate(asked)}
    found = {name: np.full((len(asked), len(rows)), np.nan) for name in ("rank", "probability")}
    for batch in tqdm(list(batches(probes.select(rows), size)), desc="patching", leave=False, disable=None):
        stream, prompts = own_stream(recipient, batch.ids, batch.last), rows[batch.indices]
        for (kind, positions, whose), group in groupby(asked, lambda patch: (patch.kind, patch.positions, patch.donor)):
            source = prompts if whose == "same" else partner[prompts]
            span = spans(positions, probes.subject, probes.lengths)
            fit = np.flatnonzero((span[prompts, 0] >= 0) & (source >= 0))
            if not len(fit):
                continue
            inputs, source = prompts[fit], source[fit]
            taken = aligned(span[inputs], span[source])
            values = donor[kind][np.concatenate([donor.offsets[s] + at for s, at in zip(source, taken, strict=True)])]
            where = torch.from_numpy(inside(span[inputs], batch.ids.shape[1])).to(recipient.device)
            tokens, last = torch.from_numpy(values).to(recipient.device), batch.last[fit]
            own, answers = stream[:, fit], [probes.answers[prompt] for prompt in inputs]
            for patch in group:
                logits = SETTERS[kind](recipient, own, patch.layers, where, tokens, last)
                scored = score_logits(logits, answers)
                for name, values in found.items():
                    values[number[patch], batch.indices[fit]] = scored[name]
    return _tidy(asked, rows, found["rank"], found["probability"])


def _tidy(
    patches: Sequence[Patch], rows: Int[np.ndarray, " chosen"], rank: Float[np.ndarray, "patch chosen"],
    probability: Float[np.ndarray, "patch chosen"],
) -> pd.DataFrame:  # fmt: skip
    """One row for each patch and prompt where there is a rank."""
    made, prompt = np.nonzero(~np.isnan(rank))
    table = pd.DataFrame({"prompt": rows[prompt]})
    for field in fields(Patch):
        table[field.name] = [getattr(patches[patch], field.name) for patch in made.tolist()]
    return table.assign(rank=rank[made, prompt].astype(int), probability=probability[made, prompt])
