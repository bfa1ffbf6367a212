"""What is read: sequences of running text, the starts of some of them, and these with one token replaced.

A sequence's neighbourhood is the sequence with one of its tokens, neither the first nor the last, replaced by one of
those whose full-precision embeddings are nearest by cosine; as a control by a token drawn evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.models import Model
from quantcliff.quantizers.healing import rows_of

NEAR, RANDOM = "near", "random"
"""Kinds of neighbours."""


@dataclass(frozen=True)
class Sizes:
    """How much is read.

    Attributes:
        sequences, tokens: running text for gradients and for the temperature.
        finite: sequences for finite slopes and Jacobians; `directions`, `probes`: random draws for each; no probes: no
            Jacobians.
        prefixes, prefix: starts of sequences, and their tokens, for neighbourhoods; `trees`: starts for trees.
        places, near: tokens of a start that are replaced, and tokens put in the place of each.
        depth, cap, samples: levels of the tree, nodes a level, continuations drawn, if any.
    """

    sequences: int = 64
    tokens: int = 64
    finite: int = 16
    directions: int = 1
    probes: int = 4
    prefixes: int = 64
    prefix: int = 24
    trees: int = 64
    places: int = 4
    near: int = 4
    depth: int = 6
    cap: int = 64
    samples: int = 32


STANDARD = Sizes()


@dataclass(frozen=True, eq=False)
class Inputs:
    """Token ids.

    Attributes:
        ids: sequences of running text.
        inside: which tokens count: not the first of a sequence, nor a special one, behind which a text begins, nor the
            last, on which no loss depends.
        starts: the beginnings of the first sequences.
        neighbours: by kind, the neighbours of the first starts.
    """

    ids: Int[Tensor, "sequence token"]
    inside: Bool[Tensor, "sequence token"]
    starts: Int[Tensor, "prefix place"]
    neighbours: dict[str, Int[Tensor, "first neighbour place"]]

    @classmethod
    def of(cls, base: Model, documents: Sequence[str], sizes: Sizes = STANDARD, seed: int = 0) -> "Inputs":
        """From running text, one document after the other.

        Raises:
            InputError: there is too little text for two sequences.
        """
        if not documents:
            raise InputError("smoothness is measured on running text: give a text file as calibration, or as text")
        most = max(sizes.sequences, sizes.prefixes, sizes.trees)
        ids = rows_of(base.tokenizer, documents, sizes.tokens, most)
        special = torch.tensor(sorted(set(base.tokenizer.all_special_ids)), dtype=torch.long)
        inside = ~torch.isin(ids, special)
        inside[:, [0, -1]] = False
        starts = ids[: max(sizes.prefixes, sizes.trees), : sizes.prefix]
        draw = torch.Generator().manual_seed(seed)
        weight = base.hf.get_input_embeddings().weight.detach().float().cpu()
        allowed = torch.ones(len(weight), dtype=torch.bool)
        allowed[special] = False
        around = neighbours(starts[: sizes.prefixes], weight, allowed, sizes, draw)
        return cls(ids[: sizes.sequences], inside[: sizes.sequences], starts, around)


def neighbours(
    starts: Int[Tensor, "prefix place"], embedding: Float[Tensor, "vocab d_model"], allowed: Bool[Tensor, " vocab"],
    sizes: Sizes, draw: torch.Generator,
) -> dict[str, Int[Tensor, "prefix neighbour place"]]:  # fmt: skip
    """The neighbours of every start, of both kinds, at the same places.

    Args:
        allowed: tokens that may be put in.
    """
    found: dict[str, list[Tensor]] = {NEAR: [], RANDOM: []}
    usable = torch.nonzero(allowed)[:, 0]
    for start in starts:
        places = torch.randperm(len(start) - 2, generator=draw)[: sizes.places] + 1
        put = {NEAR: nearest(embedding, start[places], allowed, sizes.near)}
        put[RANDOM] = usable[torch.randint(len(usable), put[NEAR].shape, generator=draw)]
        for kind, tokens in put.items():
            rows = start.repeat(tokens.numel(), 1)
            rows[torch.arange(len(rows)), places.repeat_interleave(tokens.shape[1])] = tokens.flatten()
            found[kind].append(rows)
    return {kind: torch.stack(rows) for kind, rows in found.items()}


def nearest(
    embedding: Float[Tensor, "vocab d_model"], tokens: Int[Tensor, " n"], allowed: Bool[Tensor, " vocab"], count: int
) -> Int[Tensor, "n count"]:
    """For each token the allowed other ones of the largest cosine."""
    unit = torch.nn.functional.normalize(embedding, dim=-1)
    cosine = unit[tokens] @ unit.T
    cosine[:, ~allowed] = -torch.inf
    cosine[torch.arange(len(tokens)), tokens] = -torch.inf
    return cosine.topk(count, dim=-1).indices
