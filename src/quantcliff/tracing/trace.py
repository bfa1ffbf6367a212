"""What is read off a model over a whole set of prompts: activations on disk, and scores of the answer.

Prompts go through in batches of about equal length. They are padded on the right without a mask: in a causal model a
token never sees what comes after it, so padding changes no result (tested).
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.tracing.runner import SITES, Edit, Runner, site

__all__ = [
    "SITES",
    "Batch",
    "Edit",
    "Runner",
    "Trace",
    "batches",
    "divergence",
    "likeliest",
    "rank_of",
    "score",
    "score_logits",
    "site",
]

Positions = Literal["last", "last_subject", "all"]


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


def batches(probes: Probes, size: int = 64) -> Iterator[Batch]:
    """The prompts in batches, shortest first, so that little is padded."""
    order = np.argsort(probes.lengths, kind="stable")
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        lengths = torch.tensor(probes.lengths[indices])
        ids = torch.zeros(len(indices), int(lengths.max()), dtype=torch.long)
        for row, index in enumerate(indices):
            ids[row, : lengths[row]] = torch.tensor(probes.input_ids[index])
        yield Batch(indices, ids, lengths)


@dataclass(frozen=True)
class Trace:
    """Activations of one model over one set of prompts, one memory-mapped file per kind of site.

    `trace[kind]` has shape (n, n_layers, width) for positions "last" and "last_subject" (rows of prompts without a
    subject hold NaN), and (total tokens, n_layers, width) for "all": prompt i owns rows `offsets[i]:offsets[i + 1]`.
    `pattern` has (n_heads, keys) for width: where the token looks, 0 from the end of its prompt to that of the longest.
    Numbers are float32.
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
        key = hashlib.sha256(f"{runner.model.digest} {probes.digest} {positions}".encode()).hexdigest()[:16]
        home = folder / key
        home.mkdir(parents=True, exist_ok=True)
        lengths = probes.lengths if positions == "all" else np.ones(len(probes), dtype=np.int64)
        trace = cls(home, np.concatenate([[0], np.cumsum(lengths)]))
        missing = [kind for kind in kinds if not (home / f"{kind}.npy").exists()]
        if missing:
            trace._fill(runner, probes, missing, positions, size)
        return trace

    def __getitem__(self, kind: str) -> Float[np.memmap, "rows layer *width"]:
        """The recorded activations of one kind, read from disk as they are used."""
        return np.load(self.folder / f"{kind}.npy", mmap_mode="r")

    def _fill(self, runner: Runner, probes: Probes, kinds: list[str], positions: Positions, size: int) -> None:
        names = {site(kind, layer): (kind, layer) for kind in kinds for layer in range(runner.n_layers)}
        files: dict[str, np.memmap] = {}
        longest = int(probes.lengths.max())
        part = {kind: self.folder / f"{kind}.{os.getpid()}.part" for kind in kinds}
        try:
            for batch in tqdm(list(batches(probes, size)), desc="recording activations", leave=False, disable=None):
                _, recorded = runner.run(batch.ids, record=list(names), last=batch.last)
                for name, tensor in recorded.items():
                    kind, layer = names[name]
                    if not bool(torch.isfinite(tensor).all()):
                        raise InputError(runner.first_bad(batch.ids))
                    if kind == "pattern":
                        tensor = pad(tensor.transpose(1, 2), (0, longest - tensor.shape[-1]))
                    if kind not in files:
                        shape = (int(self.offsets[-1]), runner.n_layers, *tensor.shape[2:])
                        files[kind] = _allocate(part[kind], shape)
                    self._write(files[kind], layer, batch, probes, positions, tensor.float().cpu())
            for kind, file in files.items():
                file.flush()
                part[kind].replace(self.folder / f"{kind}.npy")
        finally:
            for path in part.values():
                path.unlink(missing_ok=True)

    def _write(
        self, file: np.memmap, layer: int, batch: Batch, probes: Probes, positions: Positions, tensor: Tensor
    ) -> None:
        for row, index in enumerate(batch.indices):
            if positions == "all":
                values = tensor[row, : batch.lengths[row]]
            else:
                at = int(batch.last[row]) if positions == "last" else int(probes.subject[index, 1])
                values = tensor[row, at] if at >= 0 else torch.full(tensor.shape[2:], torch.nan)
            file[self.offsets[index] : self.offsets[index + 1], layer] = values.numpy()


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A float32 .npy file of this shape whose space on disk is taken at once: a full disk must not show up later."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    try:
        with path.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(
            f"the disk is full: activations of {file.nbytes:,} bytes do not fit into {path.parent}; free some space "
            "and run the same command again"
        ) from error
    return file


def rank_of(logits: Float[Tensor, "batch vocab"], answers: Sequence[Sequence[int]]) -> Int[Tensor, " batch"]:
    """1-based rank of the best right answer over the whole vocabulary (method.md, Conventions).

    Tokens that tie with it count as ahead of it, so that constant logits do not look like a right answer; other right
    answers never do.
    """
    right = _right(logits, answers)
    best = logits.masked_fill(~right, -torch.inf).amax(-1, keepdim=True)
    return 1 + ((logits >= best) & ~right).sum(-1)


def score_logits(logits: Float[Tensor, "batch vocab"], answers: Sequence[Sequence[int]]) -> pd.DataFrame:
    """One row per prompt: how the answer stands at the last token.

    Columns: `answer` (token id of the likeliest right answer), `rank` (1-based, of that answer), `logprob` (natural
    log) and `probability` of it, `top1` (token id of the first choice), `entropy` (nats, of the whole distribution).
    """
    logprobs = torch.log_softmax(logits.double(), -1)
    best, answer = logprobs.masked_fill(~_right(logits, answers), -torch.inf).max(-1)
    entropy = torch.special.entr(logprobs.exp()).sum(-1)
    columns = {
        "answer": answer,
        "rank": rank_of(logits, answers),
        "logprob": best,
        "probability": best.exp(),
        "top1": logits.argmax(-1),
        "entropy": entropy,
    }
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})


def likeliest(logits: Float[Tensor, "batch vocab"], tokens: Sequence[Sequence[int]]) -> Float[np.ndarray, " batch"]:
    """Probability of the likeliest of some tokens, at the last token of each prompt; nan where there are none."""
    at = logits.double().masked_fill(~_right(logits, tokens), -torch.inf).amax(-1)
    found = (at - logits.double().logsumexp(-1)).exp().cpu().numpy()
    return np.where([len(row) > 0 for row in tokens], found, np.nan)


def divergence(reference: Float[Tensor, "batch vocab"], other: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """Kullback-Leibler divergence KL(reference || other) of the two distributions behind these logits, in nats."""
    p, q = torch.log_softmax(reference.double(), -1), torch.log_softmax(other.double(), -1)
    return (torch.special.xlogy(p.exp(), p.exp()) - p.exp() * q).sum(-1).clamp_min(0)


def score(
    runner: Runner,
    probes: Probes,
    reference: Callable[[Int[np.ndarray, " batch"]], Float[Tensor, "batch vocab"]] | None = None,
    size: int = 64,
) -> pd.DataFrame:
    """`score_logits` of every prompt, row i <-> prompt i; the head runs at last tokens only.

    Args:
        reference: from numbers of prompts to another model's logits at their last tokens; adds a column `kl`, the
            `divergence` from them in nats.
    """
    parts = []
    for batch in tqdm(list(batches(probes, size)), desc=f"scoring {runner.model.name}", leave=False, disable=None):
        logits, _ = runner.run(batch.ids, last=batch.last)
        part = score_logits(logits, [probes.answers[index] for index in batch.indices])
        if reference:
            part["kl"] = divergence(reference(batch.indices), logits).cpu().numpy()
        parts.append(part.set_index(pd.Index(batch.indices)))
    if not parts:
        raise InputError("There is no prompt to score: give a fact source that holds at least one fact.")
    return pd.concat(parts).sort_index()


def _right(logits: Tensor, answers: Sequence[Sequence[int]]) -> Tensor:
    right = torch.zeros_like(logits, dtype=torch.bool)
    rows = np.repeat(np.arange(len(answers)), [len(tokens) for tokens in answers])
    right[rows, np.concatenate([*map(np.asarray, answers), []]).astype(int)] = True
    return right
