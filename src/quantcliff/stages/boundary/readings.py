"""Two models side by side at some tokens: what full precision held there, and what a quantized model makes of it.

Each batch is read once by the quantized model, and once more by full precision with the quantized stream put in front
of every layer: what leaves a layer then is what its exact weights make of the wrong input (`budget.Layer`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcliff import models
from quantcliff.models import Model
from quantcliff.probes import Probes
from quantcliff.stages.boundary.budget import Layer, snr
from quantcliff.stages.repair.eora import second_moments
from quantcliff.tracing import Runner, asked_layers, site

Ids = Int[Tensor, "_ _"]

ROWS = 64
"""Prompts side by side."""


@dataclass(frozen=True, eq=False)
class Read:
    """What a model did at n tokens.

    Attributes:
        logits: before softmax.
        streams: after every layer; `entering`: before the first.
        gate: pre-activations of the FFN, or None where they were not asked for or no layer has any.
        through: what full precision's layers make of these streams, each of the one before it; None for full precision.
    """

    logits: Float[Tensor, "n vocab"]
    streams: Float[np.ndarray, "n layer d_model"]
    entering: Float[np.ndarray, "n d_model"]
    gate: Float[Tensor, "n gated d_ffn"] | None = None
    through: Float[np.ndarray, "n layer d_model"] | None = None


@dataclass(frozen=True, eq=False)
class Reference:
    """Full precision on a set of token ids.

    Attributes:
        batches: token ids without padding.
        last: read at each row's last token alone (a fact's prompt), or at all but the first (running text).
        gates: keep the FFN's pre-activations.
    """

    base: Model
    batches: Sequence[Ids]
    last: bool
    gates: bool = False

    @classmethod
    def of_facts(cls, base: Model, probes: Probes) -> "tuple[Reference, Int[np.ndarray, ' prompt']]":
        """For prompts, and the numbers of the prompts in the order in which they are read: those of one length side by
        side."""
        order = np.argsort(probes.lengths, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(probes.lengths[order])) + 1)
        rows = [group[start : start + ROWS] for group in groups for start in range(0, len(group), ROWS)]
        batches = [torch.tensor([probes.input_ids[index] for index in part]) for part in rows]
        return cls(base, batches, last=True, gates=True), np.concatenate(rows)

    @cached_property
    def runner(self) -> Runner:
        return Runner(models.twin(self.base))

    @cached_property
    def moments(self) -> dict[str, Tensor]:
        """E[x x^T] of every module's inputs at all tokens but the first of each row, where models park attention."""
        return second_moments(self.base.hf, self.batches, first=1)

    @cached_property
    def full(self) -> Read:
        """Of full precision itself."""
        return _joined([self._read(self.runner, ids)[0] for ids in self.batches])

    def beside(self, runner: Runner) -> Read:
        """Of a quantized model in the units of full precision."""
        parts = []
        for ids in self.batches:
            read, whole = self._read(runner, ids)
            parts.append(Read(read.logits, read.streams, read.entering, read.gate, self._through(whole)))
        return _joined(parts)

    def _read(self, runner: Runner, ids: Ids) -> tuple[Read, list[Tensor]]:
        """At the asked tokens; and the streams that enter the layers, at all tokens."""
        layers = range(runner.n_layers)
        names = [site("resid_pre", 0), *(site("resid_post", layer) for layer in layers)]
        gated = [site("gate", layer) for layer in asked_layers(runner, "gate")] if self.gates else []
        at = torch.full((len(ids),), ids.shape[1] - 1) if self.last else None
        logits, found = runner.run(ids, record=[*names, *gated], last=at)
        pick = self._pick
        gate = torch.stack([pick(found[name]) for name in gated], 1) if gated else None
        streams = np.stack([pick(found[name]).numpy() for name in names[1:]], 1)
        scores = logits.cpu() if self.last else pick(logits)
        return Read(scores, streams, pick(found[names[0]]).numpy(), gate), [found[name] for name in names[:-1]]

    def _through(self, streams: list[Tensor]) -> Float[np.ndarray, "n layer d_model"]:
        edits = {site("resid_pre", layer): partial(_put, stream) for layer, stream in enumerate(streams)}
        names = [site("resid_post", layer) for layer in range(len(streams))]
        at = torch.full((len(streams[0]),), streams[0].shape[1] - 1)
        _, found = self.runner.run(streams[0], record=names, edits=edits, start_layer=0, last=at)
        return np.stack([self._pick(found[name]).numpy() for name in names], 1)

    def _pick(self, tensor: Float[Tensor, "batch pos width"]) -> Float[Tensor, "n width"]:
        return (tensor[:, -1] if self.last else tensor[:, 1:].flatten(0, 1)).float().cpu()


def _put(stream: Tensor, own: Tensor) -> Tensor:
    return stream.to(own)


def _joined(parts: Sequence[Read]) -> Read:
    first = parts[0]
    return Read(
        torch.cat([part.logits for part in parts]),
        np.concatenate([part.streams for part in parts]),
        np.concatenate([part.entering for part in parts]),
        None if first.gate is None else torch.cat([part.gate for part in parts if part.gate is not None]),
        None if first.through is None else np.concatenate([p.through for p in parts if p.through is not None]),
    )


def layers_of(full: Read, own: Read) -> list[Layer]:
    """The budget of every layer."""
    assert own.through is not None
    before, before_own = full.entering, own.entering
    found = []
    for layer in range(full.streams.shape[1]):
        after, after_own = full.streams[:, layer], own.streams[:, layer]
        found.append(Layer.of(before, before_own, after, own.through[:, layer], after_own))
        before, before_own = after, after_own
    return found


def final(full: Read, own: Read, cleaned: bool = False) -> float:
    """`snr` of the stream that leaves the last layer."""
    return snr(full.streams[:, -1], own.streams[:, -1], cleaned)


__all__ = ["Read", "Reference", "final", "layers_of"]
