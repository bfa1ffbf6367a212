"""What is read off a model over a whole set of prompts: activations on disk, and scores of the answer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from tqdm import tqdm

from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.tracing.batches import Batch, batches, patiently
from quantcliff.tracing.recording import Job, Positions, fill
from quantcliff.tracing.runner import SITES, Edit, Runner, site

__all__ = [
    "SITES",
    "Asked",
    "Batch",
    "Edit",
    "Positions",
    "Runner",
    "Trace",
    "batches",
    "divergence",
    "likeliest",
    "rank_of",
    "score",
    "score_logits",
    "score_streams",
    "site",
]


class Asked(NamedTuple):
    """Activations to record: of which prompts, which kinds (keys of `SITES`), at which of their tokens."""

    probes: Probes
    kinds: Sequence[str]
    positions: Positions


@dataclass(frozen=True)
class Trace:
    """Activations of one model over one set of prompts, one memory-mapped file per kind of site.

    `trace[kind]` has shape (n, n_layers, width) for positions "last" and "last_subject" (rows of prompts without a
    subject hold NaN), and (total tokens, n_layers, width) for "all": prompt i owns rows `offsets[i]:offsets[i + 1]`.
    `pattern` has (n_heads, keys) for width: where the token looks, 0 from the end of its prompt to that of the longest.
    Numbers are float32, and NaN in layers that have no such site.
    """

    folder: Path
    offsets: Int[np.ndarray, " n_plus_1"]

    @classmethod
    def record(
        cls, runner: Runner, probes: Probes, kinds: Sequence[str], positions: Positions, folder: Path, size: int = 64
    ) -> "Trace":
        """Record what is not yet on disk; a file that is there is finished and belongs to this model and these prompts.

        Args:
            kinds: keys of `SITES`.
            positions: at each prompt's last token, at its subject's last token, or at every token.
            folder: the trace goes into a subfolder named after the model, the prompts and the positions.
            size: prompts per batch; memory grows with it, not with the number of prompts.

        Raises:
            InputError: NaN or Inf in the activations, a kind of site the model does not have, or a full disk.
        """
        return cls.record_all(runner, [Asked(probes, kinds, positions)], folder, size)[0]

    @classmethod
    def record_all(cls, runner: Runner, asked: Sequence[Asked], folder: Path, size: int = 64) -> "list[Trace]":
        """`record` for several sets of prompts, kinds and positions, each prompt read once for all of them."""
        traces, jobs = [], {}
        for wish in asked:
            probes, positions = wish.probes, wish.positions
            key = hashlib.sha256(f"{runner.model.digest} {probes.digest} {positions}".encode()).hexdigest()[:16]
            home = folder / key
            home.mkdir(parents=True, exist_ok=True)
            lengths = probes.lengths if positions == "all" else np.ones(len(probes), dtype=np.int64)
            traces.append(cls(home, np.concatenate([[0], np.cumsum(lengths)])))
            for kind in wish.kinds:
                if not (home / f"{kind}.npy").exists():
                    file = home / f"{kind}.npy"
                    jobs[home, kind] = Job(file, kind, probes, positions, traces[-1].offsets, runner.layers_of(kind))
        if jobs:
            fill(runner, list(jobs.values()), size)
        return traces

    def __getitem__(self, kind: str) -> Float[np.memmap, "rows layer *width"]:
        """The recorded activations of one kind, read from disk as they are used."""
        return np.load(self.folder / f"{kind}.npy", mmap_mode="r")


def rank_of(logits: Float[Tensor, "batch vocab"], answers: Sequence[Sequence[int]]) -> Int[Tensor, " batch"]:
    """1-based rank of the best right answer over the whole vocabulary (method.md, Conventions).

    Tokens that tie with it count as ahead of it, so that constant logits do not look like a right answer; other right
    answers never do.
    """
    _, values = _at(logits, answers)
    best = values.amax(-1, keepdim=True)
    own = (values >= best) & ~values.isneginf()
    return 1 + (logits >= best).sum(-1) - own.sum(-1)


def score_logits(logits: Float[Tensor, "batch vocab"], answers: Sequence[Sequence[int]]) -> pd.DataFrame:
    """One row per prompt: how the answer stands at the last token.

    Columns: `answer` (token id of the likeliest right answer), `rank` (1-based, of that answer), `logprob` (natural
    log) and `probability` of it, `top1` (token id of the first choice), `entropy` (nats, of the whole distribution).
    """
    exact = logits.double()
    total = exact.logsumexp(-1)
    tokens, values = _at(exact, answers)
    best, place = values.max(-1)
    shares = (exact - total[:, None]).exp_()
    columns = {
        "answer": tokens.gather(-1, place[:, None])[:, 0],
        "rank": rank_of(logits, answers),
        "logprob": best - total,
        "probability": (best - total).exp(),
        "top1": logits.argmax(-1),
        "entropy": (total - shares.mul_(exact).sum(-1)).clamp_min(0),
    }
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})


def likeliest(logits: Float[Tensor, "batch vocab"], tokens: Sequence[Sequence[int]]) -> Float[np.ndarray, " batch"]:
    """Probability of the likeliest of some tokens, at the last token of each prompt; nan where there are none."""
    exact = logits.double()
    found = (_at(exact, tokens)[1].amax(-1) - exact.logsumexp(-1)).exp().cpu().numpy()
    return np.where([len(row) > 0 for row in tokens], found, np.nan)


def divergence(reference: Float[Tensor, "batch vocab"], other: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """Kullback-Leibler divergence KL(reference || other) of the two distributions behind these logits, in nats."""
    p, q = torch.log_softmax(reference.double(), -1), torch.log_softmax(other.double(), -1)
    return (p.exp() * (p - q)).sum(-1).clamp_min(0)


Reference = Callable[[Int[np.ndarray, " batch"]], Float[Tensor, "batch vocab"]]
"""From numbers of prompts to another model's logits at their last tokens."""


def score(runner: Runner, probes: Probes, reference: Reference | None = None, size: int = 64) -> pd.DataFrame:
    """`score_logits` of every prompt, row i <-> prompt i; the head runs at last tokens only.

    Args:
        reference: adds a column `kl`, the `divergence` from these logits in nats.
    """
    parts = []

    def work(batch: Batch) -> None:
        logits, _ = runner.run(batch.ids, last=batch.last)
        parts.append(_scored(logits, batch.indices, probes.answers, reference))

    patiently(batches(probes, size), work, desc=f"scoring {runner.model.name}")
    if not parts:
        raise InputError("There is no prompt to score: give a fact source that holds at least one fact.")
    return pd.concat(parts).sort_index()


def score_streams(
    runner: Runner, streams: Float32[np.ndarray, "n d_model"], answers: Sequence[Sequence[int]],
    reference: Reference | None = None, size: int = 64,
) -> pd.DataFrame:  # fmt: skip
    """`score` from what leaves the last layer at each prompt's last token, without running the model again."""
    chosen = [np.arange(start, min(start + size, len(streams))) for start in range(0, len(streams), size)]
    parts = [
        _scored(runner.unembed(torch.from_numpy(streams[rows])), rows, answers, reference)
        for rows in tqdm(chosen, desc=f"scoring {runner.model.name}", leave=False, disable=None)
    ]
    return pd.concat(parts)


def _scored(
    logits: Tensor, prompts: np.ndarray, answers: Sequence[Sequence[int]], reference: Reference | None
) -> pd.DataFrame:
    part = score_logits(logits, [answers[prompt] for prompt in prompts])
    if reference:
        part["kl"] = divergence(reference(prompts), logits).cpu().numpy()
    return part.set_index(pd.Index(prompts))


def _at(
    logits: Float[Tensor, "batch vocab"], tokens: Sequence[Sequence[int]]
) -> tuple[Int[Tensor, "batch most"], Float[Tensor, "batch most"]]:
    """Some tokens of each prompt, distinct, side by side, and their logits; -inf where a prompt has fewer than most."""
    rows = [list(dict.fromkeys(row)) for row in tokens]
    most = max(1, *map(len, rows)) if rows else 1
    ids = torch.tensor([[*row, *[0] * (most - len(row))] for row in rows], device=logits.device).reshape(-1, most)
    given = torch.tensor([[place < len(row) for place in range(most)] for row in rows], device=logits.device)
    return ids, logits.gather(-1, ids).masked_fill(~given.reshape(-1, most), -torch.inf)
