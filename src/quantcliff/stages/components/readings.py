"""What attention and FFN of a model did at one token of each prompt; for full precision, out of the shared trace."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcliff.probes import Probes
from quantcliff.tracing import Asked, Batch, Edit, Runner, Trace, asked_layers, site

Position = Literal["last", "last_subject"]

POSITIONS: tuple[Position, ...] = ("last", "last_subject")
"""Where components are read: at the prompt's last token and at its subject's last token."""


@dataclass(frozen=True)
class Reading:
    """What the components of one model did at one token of each prompt.

    `gate` goes into the FFN's nonlinearity (the gate projection, or the pre-activation where there is no gate), `post`
    into `down_proj`. NaN in layers that have no such site; where none has, d_ffn is 1.
    """

    pattern: Float[Tensor, "prompt layer head key"]
    attn_out: Float[Tensor, "prompt layer d_model"]
    gate: Float[Tensor, "prompt layer d_ffn"]
    post: Float[Tensor, "prompt layer d_ffn"]
    mlp_out: Float[Tensor, "prompt layer d_model"]

    def rows(self, index: Int[Tensor, " chosen"]) -> "Reading":
        """The reading of some of the prompts, in this order."""
        return Reading(**{kind: getattr(self, kind)[index] for kind in KINDS})


KINDS = tuple(field.name for field in fields(Reading))


@dataclass(frozen=True)
class Recorded:
    """Full precision's components on a set of prompts, read from its trace.

    Attributes:
        at: readings at each kind of position; `stream`: what attention (`resid_pre`) and FFN (`resid_mid`; the same as
            attention in parallel blocks) read, at all tokens.
    """

    probes: Probes
    at: Mapping[Position, Trace]
    stream: Trace
    sites: tuple[str, ...]

    @classmethod
    def of(cls, runner: Runner, probes: Probes, folder: Path) -> "Recorded":
        """Record what is not in `folder` yet, in one pass, as `Trace.record_all`."""
        sites = ("resid_pre",) if runner.parallel else ("resid_pre", "resid_mid")
        asked = [*(Asked(probes, KINDS, where) for where in POSITIONS), Asked(probes, sites, "all")]
        *at, stream = Trace.record_all(runner, asked, folder)
        return cls(probes, dict(zip(POSITIONS, at, strict=True)), stream, sites)

    def reading(self, position: Position, prompts: Int[np.ndarray, " chosen"], n_keys: int) -> Reading:
        """Of these prompts; patterns are cut to the first `n_keys` keys, which must be all that the prompts have."""
        found = {kind: torch.from_numpy(self.at[position][kind][prompts]) for kind in KINDS}
        return Reading(**found | {"pattern": found["pattern"][..., :n_keys]})

    def clean(self, prompts: Int[np.ndarray, " batch"], width: int) -> dict[str, Float[Tensor, "batch pos d_model"]]:
        """The stream by site name, padded with 0 to `width` tokens, in the form that `read` takes."""
        lengths = self.probes.lengths[prompts]
        inside = np.arange(width) < lengths[:, None]
        taken = np.concatenate([np.arange(*self.stream.offsets[prompt : prompt + 2]) for prompt in prompts])
        found: dict[str, Tensor] = {}
        for kind in self.sites:
            values = self.stream[kind][taken]
            padded = np.zeros((*inside.shape, *values.shape[1:]), dtype=np.float32)
            padded[inside] = values
            found |= {site(kind, layer): torch.from_numpy(padded[:, :, layer]) for layer in range(values.shape[1])}
        return found


def instead(stream: Mapping[str, Tensor]) -> dict[str, Edit]:
    """Edits that put these tensors, by site name, in place of a model's own."""
    return {name: partial(lambda new, own: new.to(own), given) for name, given in stream.items()}


def read(
    runner: Runner,
    batch: Batch,
    tokens: Mapping[Position, Int[Tensor, " batch"]],
    stream: Mapping[str, Tensor] | None = None,
) -> dict[Position, Reading]:
    """One pass of a model over a batch, read at each kind of position in the prompts that have it.

    Args:
        tokens: for each kind of position the token to read in every prompt; -1 skips the prompt.
        stream: what every attention and FFN is to read instead of the model's own stream, by site name; None for none.
    """
    chosen = {name: (torch.nonzero(at >= 0).flatten(), at[at >= 0]) for name, at in tokens.items()}
    picked: dict[tuple[str, str], dict[int, Tensor]] = {(name, kind): {} for name in chosen for kind in KINDS}

    def pick(kind: str, layer: int, tensor: Tensor) -> Tensor:
        for name, (rows, at) in chosen.items():
            picked[name, kind][layer] = tensor[rows, :, at] if kind == "pattern" else tensor[rows, at]
        return tensor

    edits = {site(kind, layer): partial(pick, kind, layer) for kind in KINDS for layer in asked_layers(runner, kind)}
    runner.run(batch.ids, edits=edits | instead(stream or {}), last=batch.last)

    def stacked(name: Position, kind: str) -> Tensor:
        layers = picked[name, kind]
        absent = torch.full_like(
            next(iter(layers.values())) if layers else torch.empty(len(chosen[name][0]), 1), torch.nan
        )
        return torch.stack([layers.get(layer, absent) for layer in range(runner.n_layers)], 1).float().cpu()

    return {name: Reading(**{kind: stacked(name, kind) for kind in KINDS}) for name in chosen}
