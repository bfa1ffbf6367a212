"""The exercises on components."""

import numpy as np
from scipy.special import rel_entr

from quantcliff.book.course.kinds import Choice, Function, Number, Wrong

SHARES = (0.01, 0.05, 0.2)
"""Of the neurons that count as most active, in the last exercise."""


def flips(full: np.ndarray, quantized: np.ndarray) -> np.ndarray:
    """Share of gates (prompts, neurons) whose sign differs -> (prompts,)."""
    return (np.sign(full) != np.sign(quantized)).mean(-1)


def gates() -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    full = draw.normal(0.4, 1, (5, 30))
    return [(full, full + draw.normal(0, 1, (5, 30)))]


def jsd(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of patterns (heads, keys), in bits -> (heads,)."""
    m = (p + q) / 2
    return (rel_entr(p, m) + rel_entr(q, m)).sum(-1) / 2 / np.log(2)


def patterns() -> list[tuple[np.ndarray, np.ndarray]]:
    """Patterns of three heads under a causal mask, whose last keys nobody sees; the first looks at one key alone."""
    draw = np.random.default_rng(1)
    p, q = draw.dirichlet(np.ones(7), 3), draw.dirichlet(np.ones(7), 3)
    p[0], q[0] = np.eye(7)[0], np.eye(7)[2]
    return [(np.pad(p, ((0, 0), (0, 2))), np.pad(q, ((0, 0), (0, 2))))]


def top(activity: np.ndarray, k: int) -> set[int]:
    return set(np.argsort(-activity, kind="stable")[:k].tolist())


def overlap(full: np.ndarray, quantized: np.ndarray, k: int) -> float:
    """Jaccard overlap of the k neurons with the largest absolute activity; activities (neurons,)."""
    return _jaccard(top(np.abs(full), k), top(np.abs(quantized), k))


def _jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def neurons() -> list[tuple[np.ndarray, np.ndarray, int]]:
    draw = np.random.default_rng(2)
    full = draw.normal(size=60)
    return [(full, full + draw.normal(0, 0.7, 60), k) for k in (3, 12, 30)]


def own_part(in_situ: float, clean: float, perfect: float) -> float:
    """Share of the damage that is left on clean input."""
    return (clean - perfect) / (in_situ - perfect)


def overlaps(full: np.ndarray, quantized: np.ndarray, shares: tuple[float, ...] = SHARES) -> list[float]:
    """Mean overlap over prompts for several shares of the neurons; activities (prompts, neurons)."""
    counts = [int(np.ceil(share * full.shape[1])) for share in shares]
    return [float(np.mean([overlap(a, b, k) for a, b in zip(full, quantized, strict=True)])) for k in counts]


EXERCISES = {
    1: Choice(
        right="b",
        wrong={
            "a": "The paper's line is about what is seen in situ, where a layer shows what it inherits as well.",
            "c": "Its own part is small, but it is not nothing.",
            "d": "On the same prompt full precision flips nothing beside itself; another prompt would be a yardstick.",
        },
    ),
    2: Function(
        right=flips,
        cases=gates,
        wrong=[
            Wrong(
                lambda full, quantized: ((full > 0) & (quantized < 0)).mean(-1),
                "Only gates that shut are counted; one that opens has flipped as well.",
            ),
            Wrong(lambda full, quantized: flips(full, quantized).mean(), "This is one share for all; give one each."),
            Wrong(
                lambda full, quantized: flips(full.T, quantized.T),
                "The mean runs over prompts: these are neurons' shares.",
            ),
            Wrong(
                lambda full, quantized: flips(full, quantized) * full.shape[1],
                "These are counts; divide by the neurons.",
            ),
        ],
    ),
    3: Function(
        right=jsd,
        cases=patterns,
        wrong=[
            Wrong(lambda p, q: jsd(p, q) * np.log(2), "These are nats; bits come of the logarithm to base 2."),
            Wrong(lambda p, q: 2 * jsd(p, q), "Each of the two patterns counts one half."),
            Wrong(lambda p, q: np.sqrt(jsd(p, q)), "This is the root, a distance; the divergence itself is asked for."),
            Wrong(
                lambda p, q: rel_entr(p, (p + q) / 2).sum(-1) / np.log(2),
                "Only one of the two is compared with the mean; take both.",
            ),
            Wrong(
                lambda p, q: np.full(len(p), np.nan), "0 times ln 0 is no number here: leave out keys that get nothing."
            ),
        ],
    ),
    4: Function(
        right=overlap,
        cases=neurons,
        wrong=[
            Wrong(
                lambda full, quantized, k: len(top(np.abs(full), k) & top(np.abs(quantized), k)) / k,
                "What both share is divided by k; divide by the union.",
            ),
            Wrong(
                lambda full, quantized, k: _jaccard(top(full, k), top(quantized, k)),
                "Only positive activities count here; large negative ones are active too.",
            ),
            Wrong(
                lambda full, quantized, k: _jaccard(top(-np.abs(full), k), top(-np.abs(quantized), k)),
                "These are the least active neurons: the order is turned round.",
            ),
        ],
    ),
    5: Function(
        right=own_part,
        cases=lambda: [(0.4, 0.06, 0.0), (0.09, 0.78, 1.0)],
        wrong=[
            Wrong(
                lambda in_situ, clean, perfect: clean / in_situ,
                "Values are divided where damages should be: take the distance from perfect.",
            ),
            Wrong(
                lambda in_situ, clean, perfect: (in_situ - clean) / (in_situ - perfect),
                "That is the inherited part; the own part is what clean input leaves.",
            ),
            Wrong(
                lambda in_situ, clean, perfect: (in_situ - perfect) / (clean - perfect),
                "The fraction stands upside down.",
            ),
        ],
    ),
    6: Number(
        right=overlaps,
        wrong=[
            Wrong(lambda full, quantized: overlaps(full, quantized)[::-1], "The smallest share comes first."),
            Wrong(
                lambda full, quantized: [2 * value / (1 + value) for value in overlaps(full, quantized)],
                "What both share is divided by k; divide by the union, prompt by prompt.",
            ),
            Wrong(
                lambda full, quantized: overlaps(full.mean(0)[None], quantized.mean(0)[None]),
                "Activities are averaged first; take the overlap of each prompt, then the mean.",
            ),
        ],
    ),
}
