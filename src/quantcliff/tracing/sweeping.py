"""A sweep: many patches on a set of prompts, with as little computed as possible.

Prompts whose patches begin at about the same token go together, so that the tokens before are read once. Of what is
left, patches that begin at the same block share a run. Neither changes a number but for rounding (tested).
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from itertools import groupby

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcliff.probes import Probes, aligned, inside, spans
from quantcliff.tracing.batches import Batch, batches, patiently
from quantcliff.tracing.interventions import Change, Patch, own_stream, patch_together
from quantcliff.tracing.past import remember, resumes
from quantcliff.tracing.runner import Runner
from quantcliff.tracing.trace import Trace, likeliest, rank_of

TOKENS_AT_ONCE, ROWS_AT_ONCE = 1024, 256
"""What one run may hold when it is shared: activations grow with its tokens, logits with its rows."""


Piece = tuple[np.ndarray, np.ndarray, Batch, list[int], float]
"""Spans of the patched tokens of all prompts, which rows a batch is of, the batch, numbers of the patches made there,
and the share of what may be run at once that memory has room for."""


def sweep(
    recipient: Runner,
    donor: Trace,
    probes: Probes,
    rows: Int[np.ndarray, " chosen"],
    partner: Int[np.ndarray, " prompt"],
    patches: Sequence[Patch],
    size: int = 32,
) -> pd.DataFrame:
    """Make every patch on the prompts `rows` of `probes`.

    Args:
        donor: the other model's activations of all kinds patched, at all tokens of all `probes`.
        partner: from `other_facts`; -1 where a prompt has none.
        size: prompts per batch; of more prompts fewer begin alike, of fewer a run has too little to do.

    Returns:
        One row per patch and prompt it applies to (it does not where the prompt has no such tokens or no partner):
        `prompt` (number in `probes`), the fields of the patch, and `rank` and `probability` of the answer.
    """
    asked = sorted(patches)
    rank, probability = (np.full((len(asked), len(rows)), np.nan) for _ in range(2))
    todo: list[Piece] = []
    for positions in sorted({patch.positions for patch in asked}):
        span = spans(positions, probes.subject, probes.lengths)
        here = np.flatnonzero(span[rows, 0] >= 0)
        if not len(here):
            continue
        mine = [number for number, patch in enumerate(asked) if patch.positions == positions]
        first = span[rows[here], 0]
        todo += [
            (span, here[batch.indices], batch, mine, 1.0) for batch in batches(probes.select(rows[here]), size, first)
        ]

    def work(piece: Piece) -> None:
        span, chosen, batch, mine, share = piece
        prompts = rows[chosen]
        cut = int(span[prompts, 0].min())
        past = remember(recipient, batch.ids[:, :cut]) if cut and resumes(recipient) else None
        cut = 0 if past is None else cut
        ids, last = batch.ids[:, cut:], batch.last - cut
        changes = _changes(
            recipient, donor, span, prompts, partner, [asked[number] for number in mine], ids.shape[1], cut
        )
        whole = span[prompts, 1] - span[prompts, 0] + 1 == probes.lengths[prompts]
        if all(change.kind == "resid_post" for _, change in changes) and whole.all():
            stream = torch.zeros((), dtype=recipient.model.hf.dtype, device=recipient.device)  # nothing of it is left
            stream = stream.expand(recipient.n_layers + 1, *ids.shape, recipient.d_model)
        else:
            stream = own_stream(recipient, ids, last, past)
        for group in _runs(changes, ids.shape[1], share):
            found = patch_together(recipient, stream, [change for _, change in group], last, past)
            for (number, change), logits in zip(group, found, strict=True):
                places = change.rows.cpu().numpy()
                answers = [probes.answers[prompt] for prompt in prompts[places]]
                rank[mine[number], chosen[places]] = rank_of(logits, answers).cpu().numpy()
                probability[mine[number], chosen[places]] = likeliest(logits, answers)

    patiently(todo, work, size=lambda piece: len(piece[2]), halves=_halves, desc="patching")
    return _tidy(asked, rows, rank, probability)


def _halves(piece: Piece) -> tuple[Piece, Piece]:
    span, chosen, batch, mine, share = piece
    first, second = batch.halves()
    return (span, chosen[: len(first)], first, mine, share / 2), (span, chosen[len(first) :], second, mine, share / 2)


def _changes(
    recipient: Runner, donor: Trace, span: Int[np.ndarray, "prompt 2"], prompts: Int[np.ndarray, " batch"],
    partner: Int[np.ndarray, " prompt"], patches: Sequence[Patch], width: int, cut: int,
) -> list[tuple[int, Change]]:  # fmt: skip
    """The patches (by number) on the prompts of a batch that they apply to, by the first block that they run.

    Args:
        width: tokens of the batch, its first `cut` left out.
    """

    @cache
    def source(whose: str) -> tuple[Tensor, Tensor, np.ndarray]:
        sources = prompts if whose == "same" else partner[prompts]
        fit = np.flatnonzero(sources >= 0)
        to, of = prompts[fit], sources[fit]
        places = [donor.offsets[s] + at for s, at in zip(of, aligned(span[to], span[of]), strict=True)]
        where = torch.from_numpy(inside(span[to] - cut, width)).to(recipient.device)
        return torch.from_numpy(fit).to(recipient.device), where, np.concatenate([np.zeros(0, dtype=int), *places])

    @cache
    def values(kind: str, whose: str) -> Tensor:
        return torch.from_numpy(donor[kind][source(whose)[2]]).to(recipient.device)

    changes = []
    for number, patch in enumerate(patches):
        fit, where, _ = source(patch.donor)
        if len(fit):
            changes.append((number, Change(patch.kind, patch.layers, fit, where, values(patch.kind, patch.donor))))
    return sorted(changes, key=lambda numbered: numbered[1].first)


def _runs(changes: Sequence[tuple[int, Change]], width: int, share: float = 1.0) -> Iterator[list[tuple[int, Change]]]:
    """Changes with the same first block, as many together as may be run at once."""
    most = int(share * min(ROWS_AT_ONCE, TOKENS_AT_ONCE // width))
    for _, group in groupby(changes, key=lambda numbered: numbered[1].first):
        run: list[tuple[int, Change]] = []
        for numbered in group:
            if run and sum(len(change.rows) for _, change in [*run, numbered]) > most:
                yield run
                run = []
            run.append(numbered)
        yield run


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
