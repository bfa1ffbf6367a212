"""What a model loses on one half: the answers of facts, running text, and copies."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from quantcliff.stages.boundary.margins import margins, spread
from quantcliff.stages.macro.answers import losses as document_losses
from quantcliff.stages.mixture.texts import BLOCKS, Half, readings
from quantcliff.tracing import batches, score_logits

ROWS = 64
"""Prompts side by side."""

TOKENS = 1024
"""Tokens of running text side by side: few, since the logits of all their positions are held."""

SIGNALS = ("facts", "text", "copies")


@dataclass(frozen=True, eq=False)
class Losses:
    """What a model says to a `Half`.

    Attributes:
        facts: loss of the answer, nats.
        right: whether the answer comes first.
        margin: its logit less that of the best other token, in units of the logits' spread over the vocabulary.
        text: loss of each piece, nats, summed over `tokens` of it.
        copies: loss of the second reading but its first token, nats a token.
    """

    facts: Float[np.ndarray, " fact"]
    right: Bool[np.ndarray, " fact"]
    margin: Float[np.ndarray, " fact"]
    text: Float[np.ndarray, " piece"]
    tokens: Int[np.ndarray, " piece"]
    copies: Float[np.ndarray, " copy"]

    def total(self) -> dict[str, float]:
        """Means by signal: facts (nats an answer), text and copies (nats a token), NaN where there are none."""
        text = float(self.text.sum() / self.tokens.sum()) if len(self.text) else np.nan
        copies = float(self.copies.mean()) if len(self.copies) else np.nan
        facts = float(self.facts.mean()) if len(self.facts) else np.nan
        return {"facts": facts, "text": text, "copies": copies}

    def by_block(self) -> pd.DataFrame:
        """`total` of every block: row i <-> facts, pieces and copies i, i + `BLOCKS`, i + 2 `BLOCKS`, ..."""
        parts = [[getattr(self, name)[block::BLOCKS] for name in self.__dataclass_fields__] for block in range(BLOCKS)]
        return pd.DataFrame([Losses(*part).total() for part in parts])


@dataclass(frozen=True)
class Work:
    """A batch of one signal: `rows` of the half, token ids padded on the right."""

    signal: str
    rows: Int[np.ndarray, " batch"]
    ids: Int[Tensor, "batch pos"]
    lengths: Int[Tensor, " batch"]

    @property
    def last(self) -> Tensor | None:
        """Where the head is to run: at the last token of facts, else at all."""
        return self.lengths - 1 if self.signal == "facts" else None


def works(half: Half) -> list[Work]:
    """All that a half asks, in batches."""
    found = [Work("facts", batch.indices, batch.ids, batch.lengths) for batch in batches(half.facts, ROWS)]
    return [*found, *_in_rows("text", half.pieces), *_in_rows("copies", half.copies.tolist())]


def _in_rows(signal: str, rows: list[list[int]]) -> Iterator[Work]:
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    size = max(1, TOKENS // max(map(len, rows), default=1))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        lengths = torch.tensor([len(rows[row]) for row in chosen])
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(rows[row]) for row in chosen], batch_first=True)
        yield Work(signal, np.array(chosen), ids, lengths)


class Gathered:
    """Losses of a half, filled batch by batch."""

    def __init__(self, half: Half):
        self.half = half
        sizes = {"facts": len(half.facts), "right": len(half.facts), "margin": len(half.facts),
                 "text": len(half.pieces), "copies": len(half.copies)}  # fmt: skip
        self.found = {name: np.zeros(size) for name, size in sizes.items()}
        self.spread = 0.0

    def add(self, work: Work, logits: Tensor) -> None:
        """What a model said to a batch: logits at last tokens of facts, else at all positions."""
        found, rows = self.found, work.rows
        if work.signal == "facts":
            answers = [self.half.facts.answers[row] for row in rows]
            scored = score_logits(logits, answers)
            found["facts"][rows], found["right"][rows] = -scored["logprob"], scored["rank"] == 1
            found["margin"][rows] = margins(logits, answers).double().cpu().numpy()
            self.spread += spread(logits) * len(rows) / len(self.half.facts)
        elif work.signal == "text":
            found["text"][rows] = document_losses(logits, work.ids, work.lengths).cpu().numpy()
        else:
            found["copies"][rows] = readings(logits, work.ids)[1]

    def losses(self) -> Losses:
        found, tokens = self.found, np.array([len(piece) - 1 for piece in self.half.pieces])
        margin = found["margin"] / self.spread
        return Losses(found["facts"], found["right"] > 0, margin, found["text"], tokens, found["copies"])
