"""Prompts in batches of about equal length.

They are padded on the right without a mask: in a causal model a token never sees what comes after it, so padding
changes no result (tested).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

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
