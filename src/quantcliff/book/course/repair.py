"""The exercises on repair."""

from collections.abc import Callable
from functools import cache

import numpy as np

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong
from quantcliff.models import Model, splice

Kept = Callable[[Model], float]


def eora(error: np.ndarray, moment: np.ndarray, rank: int, power: float = 0.5, back: float = -0.5) -> np.ndarray:
    """Correction (out, in) of an error on inputs with a moment (in, in); `power` and `back` of the eigenvalues."""
    values, q = np.linalg.eigh(moment)
    return truncated(error @ (q * values**power), rank) @ (q * values**back).T


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    """The nearest matrix of a rank."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def errors() -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Errors of a small weight, and a moment whose directions differ much."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(200, 6)) * np.array([5, 3, 1, 1, 0.5, 0.2]) @ draw.normal(size=(6, 6))
    moment = inputs.T @ inputs / 200
    return [(draw.normal(size=(8, 6)), moment, rank) for rank in (1, 2, 4)]


def cost(rows: int, columns: int, bits: int, group: int, rank: int) -> float:
    """Bits per weight with scales, zero points and factors."""
    return bits + (16 + bits) / group + 16 * rank * (rows + columns) / (rows * columns)


def over_control(before: np.ndarray, repaired: np.ndarray, control: np.ndarray) -> float:
    """Share of lost answers that the repair brings back, less that of the control; flags (prompts,)."""
    return float(repaired[~before].mean() - control[~before].mean())


def answers() -> list[tuple[np.ndarray, ...]]:
    draw = np.random.default_rng(1)
    return [tuple(draw.random(60) < share for share in (0.5, 0.8, 0.6)) for _ in range(2)]


@cache
def _spliced(kept: Kept, base: Model, quantized: Model, alone: bool) -> tuple[float, ...]:
    """Answers kept with one layer of another kind than all the others, layer by layer; `alone`: that one quantized."""
    found = []
    for layer in range(base.hf.config.num_hidden_layers):

        def take(name: str, own: str = f"model.layers.{layer}.") -> bool:
            return name.startswith(own) == alone

        found.append(kept(splice(base, quantized, take)))
    return tuple(found)


def alone(kept: Kept, base: Model, quantized: Model) -> list[float]:
    """Answers kept with each layer in turn quantized alone."""
    return list(_spliced(kept, base, quantized, True))


EXERCISES = {
    1: Choice(
        right="b",
        wrong={
            "a": "Plain SVD is best where all directions of the input count alike; real inputs fill few of them.",
            "c": "Both corrections have the same rank, and so the same number of numbers, far fewer than the weight.",
            "d": "The chapter's protection brings some back without any training.",
        },
    ),
    2: Function(
        right=eora,
        cases=errors,
        wrong=[
            Wrong(
                lambda error, moment, rank: truncated(error, rank),
                "That is plain SVD: the inputs play no part in it.",
            ),
            Wrong(
                lambda error, moment, rank: eora(error, moment, rank, back=0.5),
                "At the end S is multiplied once more; its inverse is due, with the roots below.",
            ),
            Wrong(
                lambda error, moment, rank: eora(error, moment, rank, power=1.0, back=-1.0),
                "The roots of the eigenvalues are missing: a moment is a square.",
            ),
            Wrong(
                lambda error, moment, rank: eora(error, moment, rank, back=0.0),
                "The inverse of S is missing at the end: this corrects the effect, not the weight.",
            ),
            Wrong(lambda error, moment, rank: error, "This is the error itself: nothing has been truncated."),
        ],
    ),
    3: Function(
        right=cost,
        cases=lambda: [(4096, 4096, 2, 128, 32), (256, 128, 4, 32, 8), (256, 128, 3, 64, 0)],
        wrong=[
            Wrong(
                lambda rows, columns, bits, group, rank: cost(rows, columns, bits, group, 0),
                "The factors of the correction cost nothing here.",
            ),
            Wrong(
                lambda rows, columns, bits, group, rank: cost(rows, columns, bits, group, rank) - bits / group,
                "The zero points are missing: every group has one of `bits` bits.",
            ),
            Wrong(
                lambda rows, columns, bits, group, rank: cost(rows, columns, bits, group, rank) - (16 + bits) / group,
                "Scales and zero points are missing.",
            ),
            Wrong(
                lambda rows, columns, bits, group, rank: cost(rows, columns, bits, group, 0) + 16 * rank / columns,
                "Only one of the two factors is counted.",
            ),
        ],
    ),
    4: Function(
        right=over_control,
        cases=answers,
        wrong=[
            Wrong(
                lambda before, repaired, control: repaired.mean() - control.mean(),
                "All prompts are counted; only those that were wrong before can come back.",
            ),
            Wrong(
                lambda before, repaired, control: repaired[~before].mean(),
                "The control is missing: part of this would come back at any nudge.",
            ),
            Wrong(
                lambda before, repaired, control: repaired[before].mean() - control[before].mean(),
                "These are the answers that were right before; take the others.",
            ),
            Wrong(
                lambda before, repaired, control: repaired.mean() - before.mean(),
                "This is the gain in accuracy over no repair, without the control.",
            ),
        ],
    ),
    5: Number(
        right=alone,
        wrong=[
            Wrong(
                lambda kept, base, quantized: list(_spliced(kept, base, quantized, False)),
                "In these models all layers but one are quantized; it is the other way round.",
            ),
            Wrong(
                lambda kept, base, quantized: [1 - share for share in alone(kept, base, quantized)],
                "These are the shares that are lost.",
            ),
            Wrong(
                lambda kept, base, quantized: alone(kept, base, quantized)[::-1],
                "The last layer comes first here; begin with layer 0.",
            ),
        ],
        rtol=1e-6,
    ),
}
