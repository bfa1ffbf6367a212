"""What a whole model loses, row by row, kept on disk, and two models compared on the same facts and texts."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from torch import Tensor

from quantcliff import stats
from quantcliff.stages.mixture.losses import SIGNALS, Losses
from quantcliff.stages.mixture.readings import Bench
from quantcliff.stages.mixture.texts import digest_parts
from quantcliff.study.shelf import Shelf

MEASURES = ("kept", "facts", "text", "copies")
"""Share of known answers kept; losses: nats an answer, nats a token of text, nats a token of copies."""


def rows_of(losses: Losses) -> pd.DataFrame:
    """signal, row, loss, and of facts `right`, of text `tokens`; 0 elsewhere."""
    parts = [("facts", losses.facts, losses.right, 0), ("text", losses.text, 0, losses.tokens),
             ("copies", losses.copies, 0, 0)]  # fmt: skip
    return pd.concat(
        [
            pd.DataFrame({"signal": signal, "row": range(len(loss)), "loss": loss}).assign(right=right, tokens=tokens)
            for signal, loss, right, tokens in parts
        ],
        ignore_index=True,
    ).astype({"right": float, "tokens": int})


def outcome(
    bench: Bench, run: Shelf, label: str, content: object, weights: Callable[[], dict[str, Tensor]]
) -> pd.DataFrame:
    """`rows_of` a model on a bench's half, read back where it is on the shelf.

    Args:
        content: all that the weights depend on, as plain values.
        weights: makes them.
    """
    key = [content, bench.runner.model.digest, *digest_parts(bench.half)]
    return run.kept("mixture", label, key, lambda: rows_of(bench.read(weights())))


def by_signal(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each signal."""
    return {signal: rows[rows["signal"] == signal] for signal in SIGNALS}


def means(rows: pd.DataFrame) -> dict[str, float]:
    """`MEASURES` of a model."""
    by = by_signal(rows)
    text = by["text"]["loss"].sum() / by["text"]["tokens"].sum()
    return {"kept": by["facts"]["right"].mean(), "facts": by["facts"]["loss"].mean(), "text": text,
            "copies": by["copies"]["loss"].mean()}  # fmt: skip


def compared(one: pd.DataFrame, other: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """measure, estimate, low, high, n: `MEASURES` of one model less those of the other, on the same rows, with paired
    bootstrap intervals; no row where there is nothing to compare."""
    found, rows = dict[str, tuple[stats.Interval, int]](), list[dict[str, object]]()
    a, b = by_signal(one), by_signal(other)
    n = len(a["facts"])
    found["kept"] = stats.paired_difference(a["facts"]["right"], b["facts"]["right"], seed), n
    found["facts"] = stats.paired_difference(a["facts"]["loss"], b["facts"]["loss"], seed), n
    more = (a["text"]["loss"].to_numpy() - b["text"]["loss"].to_numpy(), a["text"]["tokens"].to_numpy())
    found["text"] = stats.bootstrap(*more, statistic=_per_token, seed=seed), len(a["text"])
    if len(a["copies"]):
        found["copies"] = stats.paired_difference(a["copies"]["loss"], b["copies"]["loss"], seed), len(a["copies"])
    for measure, (interval, count) in found.items():
        rows.append({"measure": measure, **interval._asdict(), "n": count})
    return pd.DataFrame(rows)


def _per_token(loss: np.ndarray, tokens: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(loss.sum(axis) / tokens.sum(axis))
