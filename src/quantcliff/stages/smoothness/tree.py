"""The decoding tree of a start: every token that a model would think of, level by level; and continuations drawn."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

FLOOR = 0.05
"""Probability from which on a token is a node."""

STARTS = 8
"""Starts that are looked at side by side."""

Path = tuple[int, ...]


class Stepper:
    """A model that reads one token more of many rows at a time, and remembers what it has read."""

    def __init__(self, hf: PreTrainedModel, starts: Int[Tensor, "prefix place"], tau: float):
        self.hf, self.tau = hf, tau
        self.cache = DynamicCache(config=hf.config)
        self.p = self._read(starts)

    def take(self, parents: Int[Tensor, " row"], tokens: Int[Tensor, " row"]) -> None:
        """Go on with these rows, each with a token behind it."""
        self.cache.batch_select_indices(parents.to(self.hf.device))
        self.p = self._read(tokens[:, None])

    @torch.no_grad()
    def _read(self, ids: Tensor) -> Float[Tensor, "row vocab"]:
        out = self.hf(ids.to(self.hf.device), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return torch.softmax(self.tau * out.logits[:, -1].float(), -1).cpu()


def trees(
    hf: PreTrainedModel, starts: Int[Tensor, "prefix place"], tau: float, depth: int, cap: int
) -> list[list[set[Path]]]:
    """The nodes of every start at each depth from 1 on, as paths of tokens.

    A node is a token of probability `FLOOR` or more behind its parent. Of a level the `cap` likeliest paths are kept.
    """
    found: list[list[set[Path]]] = []
    for part in starts.split(STARTS):
        stepper = Stepper(hf, part, tau)
        owners, paths, chance = list(range(len(part))), [()] * len(part), torch.zeros(len(part))
        levels: list[list[set[Path]]] = [[] for _ in part]
        for level in range(depth):
            parents, tokens = torch.nonzero(stepper.p >= FLOOR, as_tuple=True)
            log = chance[parents] + stepper.p[parents, tokens].log()
            chosen = _likeliest([owners[row] for row in parents.tolist()], log, cap)
            parents, tokens, chance = parents[chosen], tokens[chosen], log[chosen]
            owners = [owners[row] for row in parents.tolist()]
            paths = [(*paths[row], token) for row, token in zip(parents.tolist(), tokens.tolist(), strict=True)]
            for number, nodes in enumerate(levels):
                nodes.append({path for owner, path in zip(owners, paths, strict=True) if owner == number})
            if not paths or level + 1 == depth:
                break
            stepper.take(parents, tokens)
        found += [nodes + [set() for _ in range(depth - len(nodes))] for nodes in levels]
    return found


def _likeliest(owners: Sequence[int], log: Float[Tensor, " row"], cap: int) -> Int[Tensor, " chosen"]:
    """Rows of the `cap` likeliest of every owner, in their order."""
    order = torch.argsort(log, descending=True, stable=True).tolist()
    seen: dict[int, int] = {}
    chosen = []
    for row in order:
        seen[owners[row]] = seen.get(owners[row], 0) + 1
        if seen[owners[row]] <= cap:
            chosen.append(row)
    return torch.tensor(sorted(chosen), dtype=torch.long)


def distinct(
    hf: PreTrainedModel, starts: Int[Tensor, "prefix place"], tau: float, depth: int, samples: int, seed: int = 0
) -> Float[np.ndarray, " prefix"]:
    """How many of so many continuations, drawn for every start, are different; the same luck for every model."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for part in starts.split(STARTS):
        stepper, rows = Stepper(hf, part, tau), torch.arange(len(part)).repeat_interleave(samples)
        drawn = torch.empty(len(rows), 0, dtype=torch.long)
        for level in range(depth):
            tokens = _drawn(stepper.p[rows], draw)
            drawn = torch.cat([drawn, tokens[:, None]], 1)
            if level + 1 < depth:  # continuations that are alike so far are read once
                steps, rows = torch.unique(torch.stack([rows, tokens], 1), dim=0, return_inverse=True)
                stepper.take(*steps.T)
        found += [float(len(set(map(tuple, own)))) for own in drawn.unflatten(0, (len(part), samples)).tolist()]
    return np.array(found)


def _drawn(p: Float[Tensor, "row vocab"], draw: torch.Generator) -> Int[Tensor, " row"]:
    """A token of each row, by the first place at which the summed probability is beyond a uniform number."""
    luck = torch.rand(len(p), 1, generator=draw) * p.sum(-1, keepdim=True)
    return torch.searchsorted(p.cumsum(-1), luck, right=True)[:, 0].clamp(max=p.shape[1] - 1)
