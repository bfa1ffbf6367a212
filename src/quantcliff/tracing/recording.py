"""One pass of a model over prompts, during which activations are written to disk as they come up.

Of each activation only the tokens that were asked for are kept, and they go straight into their file, so that memory
does not grow with the number of sites.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.tracing.batches import Batch, batches, patiently
from quantcliff.tracing.runner import Runner, site

Positions = Literal["last", "last_subject", "all"]


@dataclass
class Job:
    """One file to fill: one kind of site at some tokens of some prompts.

    Attributes:
        path: where the finished file goes.
        offsets: prompt i owns rows `offsets[i]:offsets[i + 1]` of the file.
        layers: those that have such a site; None for all.
    """

    path: Path
    kind: str
    probes: Probes
    positions: Positions
    offsets: Int[np.ndarray, " n_plus_1"]
    layers: Sequence[int] | None = None
    file: np.memmap | None = None

    @property
    def part(self) -> Path:
        """The file while it is not finished."""
        return self.path.with_suffix(f".{os.getpid()}.part")

    def tokens(self, batch: Batch, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, np.ndarray]:
        """Row and position, in the batch, of every token to keep, and the row of the file it goes to.

        Args:
            prompts: for each row of the batch the numbers of those of the job's prompts that read the same.
        """
        here = [(row, prompt) for row, same in enumerate(prompts) for prompt in same]
        rows, numbers = np.array(here, dtype=np.int64).reshape(-1, 2).T
        if self.positions == "all":
            lengths = self.probes.lengths[numbers]
            at = np.concatenate([numbers[:0], *map(np.arange, lengths)])
            rows, numbers = np.repeat(rows, lengths), np.repeat(numbers, lengths)
            to = self.offsets[numbers] + at
        else:
            at = self.probes.last[numbers] if self.positions == "last" else self.probes.subject[numbers, 1]
            there = at >= 0
            rows, at, to = rows[there], at[there], numbers[there]
        return torch.from_numpy(rows), torch.from_numpy(at), to

    def write(self, layer: int, n_layers: int, values: Tensor, to: Int[np.ndarray, " token"]) -> None:
        """Put the values of some tokens in one layer in their place; the file is made with the first of them."""
        if self.kind == "pattern":
            values = pad(values, (0, int(self.probes.lengths.max()) - values.shape[-1]))
        if self.file is None:
            self.make(n_layers, values.shape[1:])
        assert self.file is not None
        self.file[to, layer] = values.float().cpu().numpy()

    def make(self, n_layers: int, width: tuple[int, ...]) -> None:
        """The file, with NaN where nothing will be written: prompts without a subject, layers without such a site."""
        self.file = _allocate(self.part, (int(self.offsets[-1]), n_layers, *width))
        if self.positions == "last_subject":
            self.file[self.probes.subject[:, 1] < 0] = np.nan
        if self.layers is not None:
            self.file[:, np.setdiff1d(np.arange(n_layers), self.layers)] = np.nan


def fill(runner: Runner, jobs: Sequence[Job], size: int = 64) -> None:
    """Read every prompt of the jobs once, and fill their files.

    Raises:
        InputError: NaN or Inf in the activations, a kind of site the model does not have, or a full disk.
    """
    readers: dict[tuple[int, ...], list[list[int]]] = {}
    for number, job in enumerate(jobs):
        for prompt, ids in enumerate(job.probes.input_ids):
            readers.setdefault(tuple(ids), [[] for _ in jobs])[number].append(prompt)
    texts, asked = list(readers), list(readers.values())
    everything = Probes(
        [list(text) for text in texts], [[] for _ in texts], np.full((len(texts), 2), -1),
        pd.DataFrame({"prompt": [""] * len(texts)}), pd.DataFrame(),
    )  # fmt: skip
    try:
        patiently(
            batches(everything, size),
            lambda batch: _pass(runner, jobs, batch, [asked[index] for index in batch.indices]),
            desc="recording activations",
        )
        for job in jobs:
            if job.file is None:  # no layer has such a site
                job.make(runner.n_layers, (1,))
            assert job.file is not None
            job.file.flush()
            job.part.replace(job.path)
    finally:
        for job in jobs:
            job.part.unlink(missing_ok=True)


def _pass(runner: Runner, jobs: Sequence[Job], batch: Batch, asked: Sequence[Sequence[Sequence[int]]]) -> None:
    """One batch; `asked`: for each of its rows and each job the numbers of the job's prompts that read the same."""
    places = [job.tokens(batch, [row[number] for row in asked]) for number, job in enumerate(jobs)]

    def keep(kind: str, layer: int, tensor: Tensor) -> Tensor:
        for job, (rows, at, to) in zip(jobs, places, strict=True):
            if job.kind == kind:
                values = tensor[rows, :, at] if kind == "pattern" else tensor[rows, at]
                job.write(layer, runner.n_layers, values, to)
        return torch.isfinite(tensor).all()

    kinds = dict.fromkeys(job.kind for job in jobs)
    picks = {site(kind, layer): partial(keep, kind, layer) for kind in kinds for layer in asked_layers(runner, kind)}
    _, finite = runner.run(batch.ids, record=picks, last=batch.last)
    if not all(finite.values()):
        raise InputError(runner.first_bad(batch.ids))


def asked_layers(runner: Runner, kind: str) -> Sequence[int]:
    """The layers in which a kind of site is recorded: those that have it, or all, which then is an error, where no
    layer does and the architecture is not one of experts.
    """
    layers = runner.layers_of(kind)
    return layers if layers or kind in runner.of_experts else range(runner.n_layers)


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
