"""Which tokens of a prompt, and which other prompt stands against it.

A kind of position is a span of tokens in each prompt, first and last inclusive, -1 -1 where a prompt has none; so
ragged sets of tokens need no padding rules of their own.
"""

import numpy as np
from jaxtyping import Bool, Int

from quantcliff.errors import InputError

POSITIONS = ("last_subject", "subject", "last", "all")
"""The last token of the subject, every token of it, the prompt's last token, every token."""


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
    lengths: Int[np.ndarray, " prompt"], seed: int = 0, rows: Int[np.ndarray, " chosen"] | None = None,
) -> Int[np.ndarray, " prompt"]:  # fmt: skip
    """For each prompt (or those of `rows`) the number of one about another fact, whose activations are the control.

    The other fact shares no right answer with this one. It is of the same relation where there is one, and of the most
    similar length among those (ties are broken by `seed`). A prompt with a subject gets a donor with a subject.

    -1 for a prompt that no other fact fits, and for those not in `rows`.
    """
    draw, n = np.random.default_rng(seed), len(relation)
    relations, has_subject, right = np.asarray(relation), subject[:, 0] >= 0, [set(a) for a in answers]
    chosen = np.full(n, -1)
    for i in range(n) if rows is None else rows:
        unfit = np.array([not right[i].isdisjoint(other) for other in right]) | (has_subject[i] & ~has_subject)
        unfit[i] = True
        cost = 1e6 * (relations != relations[i]) + np.abs(lengths - lengths[i]) + draw.random(n) + 1e9 * unfit
        chosen[i] = -1 if unfit.all() else cost.argmin()
    return chosen
