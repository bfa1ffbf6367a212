"""Cross-model patching: put one model's activations into the other and see whose answer comes out.

Two models read the same prompt: full precision answers, the quantized one may not. While the *recipient* runs, an
activation of the *donor* replaces its own, at some layers and some positions, and the rest of the recipient computes on:

- forward: the donor is full precision. If the answer comes back, what lies behind the patch still works, and the fault
  lay before it (or in the patched place); if not, the parts behind the patch fail even on clean input.
- reverse: the donor is quantized. If the answer goes away, the damage that had arisen up to there is enough by itself.
- the control takes the donor's activation from *another* fact: only a right donor should help.

There is one core, `generic_patch`, and a thin named setter for each kind of activation; `sweep` runs many `Patch`es
over a prompt set, `measure` does so for every variant of a study. Definitions: arXiv 2604.19884, stage "causal
patching across models"; where the paper gives no formula, the choice is said in the docstring.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from quantcliff.errors import InputError

KINDS = ("resid_post", "attn_out", "mlp_out")
"""What is replaced: the residual stream after a block, or what its attention or its FFN adds to the stream."""

POSITIONS = ("last_subject", "subject", "last", "all")
"""Where: the last token of the subject, every token of it, the prompt's last token, every token."""


def spans(
    positions: str, subject: Int[np.ndarray, "prompt 2"], lengths: Int[np.ndarray, " prompt"]
) -> Int[np.ndarray, "prompt 2"]:
    """First and last token (inclusive) of a kind of position; -1 -1 where a prompt has none (no subject).

    `subject` holds the first and last token of each prompt's subject, -1 -1 where there is none.
    """
    first, last = subject[:, 0], subject[:, 1]
    zero, end = np.zeros_like(lengths), lengths - 1
    pairs = {"last_subject": (last, last), "subject": (first, last), "last": (end, end), "all": (zero, end)}
    if positions not in pairs:
        raise InputError(f"unknown position kind {positions!r}: choose from {', '.join(POSITIONS)}")
    return np.stack(pairs[positions], axis=1)


def inside(span: Int[np.ndarray, "prompt 2"], width: int) -> Bool[np.ndarray, "prompt {width}"]:
    """Which of `width` (padded) positions lie in each prompt's span; none for -1 -1."""
    here = np.arange(width)
    return (here >= span[:, :1]) & (here <= span[:, 1:]) & (span[:, :1] >= 0)


def aligned(to: Int[np.ndarray, "prompt 2"], source: Int[np.ndarray, "prompt 2"]) -> list[np.ndarray]:
    """For every position of span `to`, in order, the position of span `source` that stands for it.

    Spans are laid end to end from the right, so that the last subject token answers the last subject token; where the
    source is shorter, its first token is used again. A span laid on itself gives its own positions, -1 -1 gives none.

    >>> aligned(np.array([[2, 5]]), np.array([[7, 9]]))[0].tolist()
    [7, 7, 8, 9]
    """
    rows = zip(to.tolist(), source.tolist(), strict=True)
    return [np.maximum(np.arange(a, b + 1) - b + end, start)[: b + 1] for (a, b), (start, end) in rows]


def other_facts(
    relation: list[str], answers: list[list[int]], subject: Int[np.ndarray, "prompt 2"],
    lengths: Int[np.ndarray, " prompt"], seed: int = 0,
) -> Int[np.ndarray, " prompt"]:  # fmt: skip
    """For each prompt the number of a prompt about another fact, whose activations serve as the control.

    The other fact shares no right answer with this one. It is of the same relation where there is one, and of the most
    similar length among those (ties are broken by `seed`). A prompt with a subject gets a donor with a subject.

    Raises InputError if a prompt has no such partner.
    """
    draw, n = np.random.default_rng(seed), len(relation)
    relations, has_subject, right = np.asarray(relation), subject[:, 0] >= 0, [set(a) for a in answers]
    chosen = np.empty(n, dtype=np.int64)
    for i in range(n):
        unfit = np.array([not right[i].isdisjoint(other) for other in right]) | (has_subject[i] & ~has_subject)
        unfit[i] = True
        if unfit.all():
            raise InputError("the shuffled-donor control needs facts with different answers: give more facts")
        cost = 1e6 * (relations != relations[i]) + np.abs(lengths - lengths[i]) + draw.random(n) + 1e9 * unfit
        chosen[i] = cost.argmin()
    return chosen


def recovery(
    patched: Float[np.ndarray, "patch prompt"],
    recipient: Float[np.ndarray, " prompt"],
    donor: Float[np.ndarray, " prompt"],
    *, seed: int = 0, resamples: int = 1000,
) -> Float[np.ndarray, "patch 3"]:  # fmt: skip
    """Share of the way from the recipient's answer probability to the donor's: estimate, low, high per patch.

        recovery = (p_patched - p_recipient) / (p_donor - p_recipient)

    which for the forward direction is (p_patched - p_Q) / (p_FP - p_Q): 0 is the recipient, 1 the donor, below 0 is
    harm; in the reverse direction the share of the damage that the patch carries over.

    *Chosen*: the ratio of the means over prompts, with a 95% bootstrap over prompts (all three probabilities of a
    prompt are drawn together). A mean of ratios would be ruled by the prompts on which both models agree: there the
    denominator is near 0 and of either sign. All three are NaN where the mean gap's own interval reaches 0: then
    there is nothing to recover.
    """
    n = len(donor)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    gap, gain = donor - recipient, patched - recipient
    low, high = np.quantile(weights @ gap, [0.025, 0.975])
    if low <= 0 <= high:
        return np.full((len(patched), 3), np.nan)
    draws = np.quantile((gain @ weights.T) / (weights @ gap), [0.025, 0.975], axis=1)
    return np.stack([gain.mean(axis=1) / gap.mean(), *draws], axis=1)
