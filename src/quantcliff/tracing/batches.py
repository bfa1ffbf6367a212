"""Prompts in batches of about equal length.

They are padded on the right without a mask: in a causal model a token never sees what comes after it, so padding
changes no result (tested). Where a GPU's memory does not reach for a batch, `patiently` goes on with half of it.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from quantcliff.errors import InputError
from quantcliff.probes import Probes


@dataclass(frozen=True)
class Batch:
    """Some prompts, ready to run."""

    indices: Int[np.ndarray, " batch"]
    """Which prompts of the set these are."""
    ids: Int[Tensor, "batch pos"]
    """Token ids, padded on the right with 0."""
    lengths: Int[Tensor, " batch"]
    """Tokens of each prompt."""

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """Position of each prompt's last token."""
        return self.lengths - 1

    def halves(self) -> "tuple[Batch, Batch]":
        """Its first and its second half, each padded no further than it must be."""
        middle = len(self.indices) // 2
        first, second = (
            Batch(self.indices[rows], self.ids[rows, : int(self.lengths[rows].max())], self.lengths[rows])
            for rows in (slice(0, middle), slice(middle, None))
        )
        return first, second

    def __len__(self) -> int:
        return len(self.indices)


def batches(probes: Probes, size: int = 64, first: Int[np.ndarray, " prompt"] | None = None) -> Iterator[Batch]:
    """The prompts in batches, shortest first, so that little is padded; above that in the order of `first`, where only
    the tokens from `first` on are to be run."""
    order = np.lexsort((probes.lengths, np.zeros_like(probes.lengths) if first is None else first))
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        lengths = torch.tensor(probes.lengths[indices])
        ids = torch.zeros(len(indices), int(lengths.max()), dtype=torch.long)
        for row, index in enumerate(indices):
            ids[row, : lengths[row]] = torch.tensor(probes.input_ids[index])
        yield Batch(indices, ids, lengths)


Piece = TypeVar("Piece")


def patiently(
    pieces: Iterable[Piece],
    work: Callable[[Piece], None],
    *,
    size: Callable[[Piece], int] = len,  # type: ignore[assignment]
    halves: Callable[[Piece], tuple[Piece, Piece]] = Batch.halves,  # type: ignore[assignment]
    desc: str | None = None,
) -> None:
    """Do the work on every piece; where it does not fit into a GPU's memory, on its halves, and say so.

    Once halved, later pieces begin at the size that was found to fit.

    Args:
        work: must do the same when it is done again after it broke off.
        size, halves: prompts of a piece, and the two pieces it can be cut into.

    Raises:
        InputError: a single prompt does not fit.
    """
    most = sys.maxsize
    for whole in tqdm(list(pieces), desc=desc, leave=False, disable=None):
        todo = deque([whole])
        while todo:
            piece = todo.popleft()
            if size(piece) > most:
                todo.extendleft(reversed(halves(piece)))
                continue
            try:
                work(piece)
                continue
            except torch.cuda.OutOfMemoryError as error:
                if size(piece) == 1:
                    raise InputError(
                        "the GPU's memory does not hold one prompt beside the model; use dtype bfloat16 or device cpu"
                    ) from error
            most = size(piece) // 2
            tqdm.write(f"quantcliff: the GPU's memory is full; going on with {most} prompts at once", file=sys.stderr)
            torch.cuda.empty_cache()
            todo.appendleft(piece)
