"""The exercises on the verdict."""

from collections.abc import Callable

import numpy as np

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong

ToGrid = Callable[[np.ndarray, int], np.ndarray]


def forms(score: np.ndarray) -> float:
    """Share of pairs (pairs, prompt, answer) whose prompts together lean to their own answers."""
    return float(((score[:, 0, 0] - score[:, 0, 1] + score[:, 1, 1] - score[:, 1, 0]) > 0).mean())


def both(score: np.ndarray) -> float:
    return float(((score[:, 0, 0] > score[:, 0, 1]) & (score[:, 1, 1] > score[:, 1, 0])).mean())


def of_all(score: np.ndarray) -> float:
    return float(np.mean([score[:, 0, 0] > score[:, 0, 1], score[:, 1, 1] > score[:, 1, 0]]))


def pairs() -> list[tuple[np.ndarray]]:
    """Scores of pairs in which one answer is liked better, whatever the prompt."""
    draw = np.random.default_rng(0)
    return [(draw.normal(0, 1, (50, 2, 2)) + 0.6 * np.eye(2) + np.array([0.0, 1.5]),)]


def severity(value: float, perfect: float, threshold: float) -> float:
    """Share of the way from perfect to the threshold, never below 0."""
    return max(0.0, _way(value, perfect, threshold))


def _way(value: float, perfect: float, threshold: float) -> float:
    return (value - perfect) / (threshold - perfect)


def signals() -> list[tuple[float, float, float]]:
    return [(0.9, 1.0, 0.5), (0.2, 1.0, 0.5), (0.12, 0.0, 0.3), (0.02, 0.05, 0.4)]


def stretch(weights: np.ndarray, stored: np.ndarray, bits: int, to_grid: ToGrid) -> float:
    """Reach of the stored values over that of the rounded weights; both (n,)."""
    return float(np.ptp(stored) / np.ptp(to_grid(weights, bits)))


def spanned(group: np.ndarray, bits: int) -> np.ndarray:
    """Plain rounding to a grid that spans the group and 0."""
    low, high = min(group.min(), 0), max(group.max(), 0)
    scale = (high - low) / (2**bits - 1)
    zero = np.round(-low / scale)
    return scale * (np.clip(np.round(group / scale + zero), 0, 2**bits - 1) - zero)


def stored() -> list[tuple[np.ndarray, np.ndarray, int, ToGrid]]:
    """Groups to one side of 0, some with scales that are too large or too small, one moved by a step of its grid."""
    draw = np.random.default_rng(1)
    groups = [draw.normal(2, 1, 32) for _ in range(4)]
    rounded = [spanned(group, 2) for group in groups]
    values = [rounded[0], 4 * rounded[1], 0.5 * rounded[2], rounded[3] + groups[3].max() / 3]
    return [(weights, found, 2, spanned) for weights, found in zip(groups, values, strict=True)]


def enough(z: float = 1.96, share: float = 0.85, limit: float = 0.75) -> int:
    """Smallest n at which Wilson's lower bound of a share reaches a limit."""

    def lower(n: int) -> float:
        half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
        return (share + z**2 / (2 * n) - half) / (1 + z**2 / n)

    return next(n for n in range(1, 10_000) if lower(n) >= limit)


def enough_by_the_usual(z: float = 1.96, share: float = 0.85, limit: float = 0.75) -> int:
    return int(np.ceil(z**2 * share * (1 - share) / (share - limit) ** 2))


EXERCISES = {
    1: Choice(
        right="b",
        wrong={
            "a": "The rule does not ask how much is lost, but whether answers form and layers respond.",
            "c": "Mixed is said where the deciding questions disagree; look at both of them.",
            "d": "A format bug is read off the file, and nothing is said of the file here.",
        },
    ),
    2: Function(
        right=forms,
        cases=pairs,
        wrong=[
            Wrong(
                both,
                "Both prompts must win alone here, so a liking for one answer counts against the pair; add them up.",
            ),
            Wrong(of_all, "Prompts are counted one by one; the two of a pair are judged together."),
            Wrong(
                lambda score: float((score[:, 0, 0] > score[:, 0, 1]).mean()),
                "Only the first prompt of each pair is looked at.",
            ),
            Wrong(
                lambda score: 1 - forms(score),
                "These are the pairs that lean to each other's answers: a sign is wrong.",
            ),
        ],
    ),
    3: Function(
        right=severity,
        cases=signals,
        wrong=[
            Wrong(_way, "A value on the good side of perfect must give 0, not a negative severity."),
            Wrong(
                lambda value, perfect, threshold: abs(_way(value, perfect, threshold)),
                "A value on the good side of perfect counts as damage here.",
            ),
            Wrong(
                lambda value, perfect, threshold: max(0.0, (value - perfect) / threshold),
                "The way is as long as from perfect to the threshold, not from 0.",
            ),
            Wrong(
                lambda value, perfect, threshold: min(1.0, severity(value, perfect, threshold)),
                "Beyond the threshold the severity goes on above 1.",
            ),
        ],
    ),
    4: Function(
        right=stretch,
        cases=stored,
        wrong=[
            Wrong(
                lambda weights, stored, bits, to_grid: np.ptp(stored) / np.ptp(weights),
                "The weights themselves are the measure here; take them after plain rounding.",
            ),
            Wrong(
                lambda weights, stored, bits, to_grid: 1 / stretch(weights, stored, bits, to_grid),
                "The ratio stands upside down.",
            ),
            Wrong(
                lambda weights, stored, bits, to_grid: np.abs(stored).max() / np.abs(to_grid(weights, bits)).max(),
                "This compares the largest values; the distance from lowest to highest is asked for.",
            ),
        ],
    ),
    5: Number(
        right=enough,
        wrong=[
            Wrong(enough_by_the_usual, "That is the number for the usual interval; Wilson's bound lies elsewhere."),
            Wrong(lambda: enough(z=1.645), "The z of 90% is used; 95% needs 1.96."),
            Wrong(lambda: enough() - 1, "One too few: there the bound is still below the limit."),
        ],
        rtol=1e-6,
    ),
}
