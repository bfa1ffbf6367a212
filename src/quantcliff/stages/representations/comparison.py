"""The measures of this stage over all layers of a variant, with intervals: the table of the chapter."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.stages.representations.alignment import SUBSPACES, chance_of, default_k, described
from quantcliff.stages.representations.cka import cka_pairs
from quantcliff.stages.representations.moments import blocks, jackknife
from quantcliff.stages.representations.views import views
from quantcliff.study import FULL, Study
from quantcliff.tracing import Positions

PARALLEL_WIDTH = 1024
"""From this width on linear algebra may use several threads; below it several layers are taken at once."""

MOST_LAYERS = 8
"""Layers at once, at most: each holds some matrices of the width squared."""

RANGES = {
    "gain": (-np.inf, np.inf), "cka_debiased": (-np.inf, 1), "error_size": (0, np.inf),
    "signal_directions": (1, np.inf), "error_directions": (1, np.inf), "residual_directions": (1, np.inf),
}  # fmt: skip
"""What a measure's interval is cut to; the others are shares, from 0 to 1."""


def cka_table(
    full: Float[np.ndarray, "n layers d"],
    quantized: Float[np.ndarray, "n layers d"],
    parts: list[Int[np.ndarray, " _"]],
    pairs: Collection[tuple[int, int]] | None = None,
) -> pd.DataFrame:
    """`cka` and `cka_debiased` of pairs of layers, with jackknife intervals over the blocks `parts` of rows.

    `chance` is the mean over shuffled pairings. The arrays may be memory-mapped: with many rows one pair of layers is
    read at a time, with few their Gram matrices are held.

    Args:
        pairs: (full precision, quantized) layers, counted from 0; None for every layer with every layer.
    """
    pairs = list(np.ndindex(full.shape[1], quantized.shape[1])) if pairs is None else list(pairs)
    n = sum(map(len, parts))
    rows = []
    with _threads(full.shape[2]):
        for (i, j), values, chance in cka_pairs(full, quantized, parts, pairs):
            rows.append(_row("cka", i, j, True, None, values[:, 0], (chance, np.nan, np.nan), n))
            rows.append(_row("cka_debiased", i, j, True, None, values[:, 1], (0.0, np.nan, np.nan), n))
    return pd.DataFrame(rows).astype({"k": "Int64"})


def aligned_table(
    full: Float[np.ndarray, "n layers d"],
    quantized: Float[np.ndarray, "n layers d"],
    parts: list[Int[np.ndarray, " _"]],
    ks: Sequence[int],
    means: Sequence[bool] = (True, False),
    subspaces: Sequence[str] = SUBSPACES,
) -> pd.DataFrame:
    """The measures of `described` for every layer, with and without the mean removed; intervals as in `cka_table`.

    Args:
        means: with the mean removed (True), without (False), or both.
        subspaces: see `described`.
    """
    n = sum(map(len, parts))

    def of_layer(layer: int) -> list[dict[str, object]]:
        x, y = full[:, layer], quantized[:, layer]
        found = [
            {centred: described(view(centred), ks, centred, subspaces) for centred in means}
            for view in views(x, y, parts)
        ]
        rows = []
        for centred in means:
            for measure, k in found[0][centred]:
                values = np.array([replicate[centred][measure, k] for replicate in found])
                chance = chance_of(measure, k, found[0][centred], full.shape[2], n)
                rows.append(_row(measure, layer, layer, centred, k, values, chance, n))
        return rows

    with _threads(full.shape[2]), ThreadPoolExecutor(_workers(full.shape[2])) as pool:
        rows = list(chain.from_iterable(pool.map(of_layer, range(full.shape[1]))))
    return pd.DataFrame(rows).astype({"k": "Int64"})


def _workers(width: int) -> int:
    """Layers at once: as many as there are cores where each works in one thread, else one."""
    return min(MOST_LAYERS, torch.get_num_threads()) if width < PARALLEL_WIDTH else 1


def _threads(width: int) -> threadpool_limits:
    """One thread for small matrices: threads that wait for each other cost more than they save."""
    return threadpool_limits(1 if width < PARALLEL_WIDTH else None)


def _row(
    measure: str, layer_fp: int, layer_q: int, centred: bool, k: int | None, values: np.ndarray,
    chance: Sequence[float], n: int,
) -> dict[str, object]:  # fmt: skip
    estimate, low, high = jackknife(values)
    least, most = RANGES.get(measure, (0, 1))
    return {
        "measure": measure, "layer_fp": layer_fp, "layer_q": layer_q, "centred": centred, "k": k,
        "estimate": float(estimate), "low": float(np.clip(low, least, most)), "high": float(np.clip(high, least, most)),
        "chance": chance[0], "chance_low": chance[1], "chance_high": chance[2], "n": n,
    }  # fmt: skip


def rows_of(probes: Probes, positions: Positions) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """Rows to take of a trace at these positions, and the prompt each belongs to.

    "last" is each prompt's last token, "last_subject" the last token of its subject (prompts without one are left
    out), "all" every token but the first of each prompt. The first token, BOS where the tokenizer has one, is the same
    in all prompts or a sink of attention; its activations are far longer than any other's and would be the only thing
    that a second moment sees.

    Raises:
        InputError: an unknown choice, or one that no prompt has a token for (no subject, no second token).
    """
    if positions not in get_args(Positions):
        raise InputError(f"positions is {positions!r}; choose from {', '.join(get_args(Positions))}")
    owner = np.arange(len(probes))
    rows = np.flatnonzero(probes.subject[:, 1] >= 0) if positions == "last_subject" else owner
    if positions == "all":
        owner = np.repeat(owner, probes.lengths)
        first = np.cumsum(probes.lengths) - probes.lengths
        rows = np.setdiff1d(np.arange(len(owner)), first)
    if not len(rows):
        raise InputError(f"no prompt has a token for positions={positions!r}; choose positions='last'")
    return rows, owner[rows]


def streams(
    study: Study, label: str, positions: Positions = "last"
) -> tuple[Float[np.ndarray, "n layers d"], Float[np.ndarray, "n layers d"]]:
    """Residual streams after every layer of full precision and of a variant, at these positions of `study.inside`.

    Row i of one belongs to row i of the other; memory-mapped where they are as long as they are recorded.
    """
    if positions == "last":
        return study.last_streams(FULL, study.inside), study.last_streams(label, study.inside)
    here, there = (study.trace("resid_post", positions=positions, label=name) for name in (FULL, label))
    return here["resid_post"], there["resid_post"]


def compare(
    study: Study, label: str, positions: Sequence[Positions] = ("last",), ks: Sequence[int] | None = None,
    n_blocks: int = 20, diagonal: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Every measure of one variant against full precision, on the residual stream after each layer, on `study.inside`.

    Args:
        positions: which tokens to compare, see `rows_of`. "last" by default: the answer is read there, and one row per
            prompt makes rows independent.
        ks: numbers of directions that count as signal; None for a sixteenth of the width (`SHARE_OF_WIDTH`).
        n_blocks: random blocks of prompts for the jackknife; the time for intervals grows with it.
        diagonal: only each layer with itself, means removed, without overlaps of errors; a tenth of the work.

    Returns:
        positions, measure, layer_fp, layer_q, centred, k (missing where a measure has none), estimate, low, high,
        chance, chance_low, chance_high, n (rows compared).

    Raises:
        InputError: a k that is not between 1 and the width less one, or positions that no prompt has.
    """
    ks = _check_ks(study, ks)
    chosen = {where: rows_of(study.inside, where) for where in positions}
    tables = []
    for where, (rows, prompt) in chosen.items():
        full, other = streams(study, label, where)
        parts = [rows[part] for part in blocks(prompt, n_blocks, study.seed)]
        if diagonal:
            same = [(layer, layer) for layer in range(full.shape[1])]
            both = [cka_table(full, other, parts, same), aligned_table(full, other, parts, ks, [True], ["subspace"])]
        else:
            both = [cka_table(full, other, parts), aligned_table(full, other, parts, ks)]
        tables.append(pd.concat(both, ignore_index=True).assign(positions=where))
    return pd.concat(tables, ignore_index=True)


def measure(
    study: Study, positions: Sequence[Positions] = ("last",), ks: Sequence[int] | None = None, n_blocks: int = 20
) -> pd.DataFrame:
    """`compare` of every variant -> RUN/representations.parquet, with the columns variant, method, bits, group_size.

    Raises:
        InputError: as `compare`, before anything is computed.
    """
    ks = _check_ks(study, ks)
    for where in positions:
        rows_of(study.inside, where)
    return study.table(
        "representations", lambda label: compare(study, label, positions, ks, n_blocks),
        positions=tuple(positions), ks=ks, n_blocks=n_blocks,
    )  # fmt: skip


def _check_ks(study: Study, ks: Sequence[int] | None) -> tuple[int, ...]:
    width = study.base.hf.config.hidden_size
    ks = tuple(sorted(set(ks or (default_k(width),))))
    if not all(1 <= k < width for k in ks):
        raise InputError(
            f"k is {', '.join(map(str, ks))}; the activations are {width} wide, so choose 1 to {width - 1}"
        )
    return ks
