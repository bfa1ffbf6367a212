"""The exercises on the cliff, seen from outside."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong

Ranks = Mapping[int, np.ndarray]


def shares(ranks: Ranks, chosen: str, near: str) -> list[float]:
    """Share of the chosen ranks that are near, at 4 and at 2 bits; both as conditions on `rank`."""
    tables = (pd.DataFrame({"rank": ranks[bits]}).query(chosen) for bits in (4, 2))
    return [table.eval(near).mean() for table in tables]


def usual(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The normal approximation, which has no width at 0."""
    share = hits / n
    half = z * (share * (1 - share) / n) ** 0.5
    return share - half, share + half


def score(hits: int, n: int, z: float = 1.96, shift: bool = True, shrink: bool = True) -> tuple[float, float]:
    """Wilson's interval, or one that lacks a part of it."""
    share = hits / n
    middle = share + z**2 / (2 * n) * shift
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    whole = 1 + z**2 / n * shrink
    return (middle - half) / whole, (middle + half) / whole


def symmetric(group: Tensor, bits: int) -> Tensor:
    """The grid of the exercise: weights (n,) -> (n,)."""
    largest = 2 ** (bits - 1) - 1
    scale = group.abs().max() / largest
    return scale * (group / scale).round().clamp(-largest, largest)


def one_sided(group: Tensor, bits: int) -> Tensor:
    largest = 2 ** (bits - 1) - 1
    scale = group.max() / largest
    return scale * (group / scale).round().clamp(-largest, largest)


def too_fine(group: Tensor, bits: int) -> Tensor:
    largest = 2**bits - 1
    scale = group.abs().max() / largest
    return scale * (group / scale).round().clamp(-largest, largest)


def only_integers(group: Tensor, bits: int) -> Tensor:
    largest = 2 ** (bits - 1) - 1
    return (group / (group.abs().max() / largest)).round()


def cut_off(group: Tensor, bits: int) -> Tensor:
    largest = 2 ** (bits - 1) - 1
    scale = group.abs().max() / largest
    return scale * (group / scale).trunc()


def groups() -> list[tuple[Tensor, int]]:
    """Groups of weights whose largest absolute value is negative, to be put on 4, 3 and 2 bits."""
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(64, generator=draw) - 0.5, bits) for bits in (4, 3, 2)]


def kl(full: Tensor, quantized: Tensor) -> Tensor:
    """KL(p, q) in nats of logits (n, vocabulary) -> (n,)."""
    p, q = torch.log_softmax(full, -1), torch.log_softmax(quantized, -1)
    return (p.exp() * (p - q)).sum(-1)


def logits() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    full = 2 * torch.randn(5, 40, generator=draw)
    return [(full, full + torch.randn(5, 40, generator=draw)), (full, full + 3)]


def by_band(table: pd.DataFrame, scores: pd.DataFrame, column: str = "probability") -> pd.Series:
    """Mean of a column of the scores in each band of popularity."""
    return scores[column].groupby(table["band"].to_numpy()).mean()


EXERCISES = {
    1: Choice(
        right="b",
        wrong={
            "a": "Equally accurate is not equally wrong: compare where the right answers stand that were lost.",
            "c": "The outcome does not name its cause: method, group size and model decide too, not bits alone.",
            "d": "A temperature changes probabilities but leaves every rank as it is, and here ranks differ.",
        },
    ),
    2: Number(
        right=lambda ranks: shares(ranks, "rank > 1", "rank <= 5"),
        wrong=[
            Wrong(
                lambda ranks: shares(ranks, "rank > 0", "rank <= 5"),
                "You divide by all known facts and count those that were kept: take only the lost ones.",
            ),
            Wrong(
                lambda ranks: shares(ranks, "rank > 0", "1 < rank <= 5"),
                "You count the right facts but divide by all known ones: divide by the number of lost ones.",
            ),
            Wrong(
                lambda ranks: shares(ranks, "rank > 1", "rank > 5"),
                "That is the share of lost answers that have left the top 5; the others are asked for.",
            ),
            Wrong(
                lambda ranks: shares(ranks, "rank > 1", "rank <= 5")[::-1],
                "The two numbers stand in the wrong order: 4 bits first.",
            ),
        ],
    ),
    3: Function(
        right=score,
        cases=lambda: [(0, 20), (7, 20), (193, 200), (50, 50)],
        wrong=[
            Wrong(usual, "That is the usual interval, which has no width at 0 of 20; Wilson's adds terms in z²/n."),
            Wrong(lambda hits, n: score(hits, n, z=1.645), "The z of 90% is used; 95% needs 1.96."),
            Wrong(lambda hits, n: score(hits, n, shrink=False), "The whole must be divided by 1 + z²/n as well."),
            Wrong(lambda hits, n: score(hits, n, shift=False), "The middle is not the share itself: z²/(2n) is added."),
            Wrong(lambda hits, n: score(hits, n)[::-1], "Upper and lower bound are swapped."),
        ],
        rtol=5e-3,
        atol=1e-4,
    ),
    4: Function(
        right=symmetric,
        cases=groups,
        wrong=[
            Wrong(
                one_sided,
                "The scale comes from the largest weight; where the largest in size is negative, it is cut off.",
            ),
            Wrong(
                too_fine, "There are too many values: with a sign, b bits leave 2^(b-1) - 1 integers on each side of 0."
            ),
            Wrong(only_integers, "These are the integers; multiply by the scale to get weights back."),
            Wrong(cut_off, "Weights are cut towards 0 instead of rounded to the nearest value."),
        ],
    ),
    5: Function(
        right=kl,
        cases=logits,
        wrong=[
            Wrong(lambda p, q: kl(q, p), "The two models are swapped: full precision must weigh."),
            Wrong(lambda p, q: kl(p, q) / np.log(2), "These are bits; nats come of the natural logarithm."),
            Wrong(lambda p, q: kl(p, q).mean(), "This is one number for all prompts; give one each."),
            Wrong(
                lambda p, q: kl(p, q) / p.shape[-1],
                "The mean over the vocabulary is taken where the sum is due.",
            ),
            Wrong(
                lambda p, q: (p.softmax(-1) * (p - q)).sum(-1),
                "Logits are no log-probabilities: a constant added to all of them must change nothing.",
            ),
        ],
    ),
    6: Number(
        right=by_band,
        wrong=[
            Wrong(lambda table, scores: by_band(table, scores, "rank"), "That is the rank, not the probability."),
            Wrong(lambda table, scores: by_band(table, scores)[::-1], "Band 0, the most popular, comes first."),
            Wrong(
                lambda table, scores: by_band(table, scores).mean(),
                "That is one mean for all; give one for each band.",
            ),
        ],
    ),
}
