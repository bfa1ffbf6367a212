"""Stage 5, representations: is what the network holds in its residual stream still the same?

Two models read the same prompts; H_FP and H_Q are their activations at one layer, one row per prompt (or token), and
E = H_Q - H_FP is the error. Measures (paper arXiv 2604.19884, section on representations; formulas in method.md):

`cka`, `cka_debiased`  linear CKA, full precision layer i against quantized layer j
`subspace`             ||U_k^T V_k||_F^2 / k of the top-k right singular vectors of H_FP and H_Q
`error_share`          share of the energy of E inside the top-k subspace of H_FP
`error_overlap`        ||U_k(H_FP)^T U_k(E)||_F^2 / k
and what is needed to read them (all *chosen* here, not in the paper)
`signal_share`         share of H_FP's own energy inside its top-k subspace: what an error shaped like the signal scores
`error_size`           energy of E over energy of H_FP
`shift_share`          share of the energy of E that is one shift common to all rows
`gain`                 g = <H_FP, H_Q> / <H_FP, H_FP>: how much of the signal is still there, 1 all of it, 0 nothing
`fade_share`           share of the energy of E that is the missing signal (g - 1) H_FP
`residual_share`, `residual_overlap`  like `error_share` and `error_overlap`, of what the fade leaves: H_Q - g H_FP
`signal_directions`, `error_directions`, `residual_directions`  how many directions its energy fills (participation)
Everything follows from streamed second moments (`moments.Cross`): memory grows with width squared, not with rows.
"""

from collections.abc import Collection, Sequence
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.stages.representations.cka import cka_chance, cosine, hsic
from quantcliff.stages.representations.moments import Cross, blocks, jackknife, replicates
from quantcliff.stages.representations.subspaces import (
    RESOLUTION,
    above,
    directions,
    overlap,
    participation,
    random_share,
    share,
)
from quantcliff.study import Study
from quantcliff.tracing import Positions, Trace

SHARE_OF_WIDTH = 1 / 16
"""Default k over width. A fixed share, so that the chance level k/d is one number for every layer and every model;
a k that explains a fixed share of variance would change from layer to layer and move chance with it."""

PARALLEL_WIDTH = 1024
"""From this width on linear algebra may use several threads."""

RANGES = {
    "gain": (-np.inf, np.inf), "cka_debiased": (-np.inf, 1), "error_size": (0, np.inf),
    "signal_directions": (1, np.inf), "error_directions": (1, np.inf), "residual_directions": (1, np.inf),
}  # fmt: skip
"""What a measure's interval is cut to; the others are shares, from 0 to 1."""


def default_k(width: int) -> int:
    """Directions that count as signal unless told otherwise: a sixteenth of the width, at least 1."""
    return max(1, round(width * SHARE_OF_WIDTH))


def aligned(xx: Cross, yy: Cross, xy: Cross, ks: Sequence[int], centred: bool) -> dict[tuple[str, int | None], float]:
    """The measures of one layer of both models, by name and k (None where a measure has no k).

    x is full precision, y quantized. Where the error is zero or too small for float64, or there are fewer than k
    directions, the measures that need them are NaN.
    """
    signal, other, both = xx.second(centred), yy.second(centred), xy.second(centred)
    error = signal + other - both - both.T
    floor = RESOLUTION * (xx.square_x + yy.square_x)
    energy, size = above(np.trace(signal), floor), above(np.trace(error), floor)
    gain = float(np.trace(both) / energy)
    residual = other - gain * (both + both.T) + gain**2 * signal
    values: dict[tuple[str, int | None], float] = {
        ("error_size", None): float(np.trace(error) / energy),
        ("gain", None): gain,
        ("fade_share", None): float((1 - gain) ** 2 * energy / size),
    }
    if not centred:
        shift = yy.x - xx.x
        values["shift_share", None] = float(shift @ shift / xx.n / size)
    u, v, w, left = (directions(second, max(ks), floor) for second in (signal, other, error, residual))
    for name, second in (("signal", signal), ("error", error), ("residual", residual)):
        values[f"{name}_directions", None] = participation(second, floor)
        values |= {(f"{name}_share", k): float(share(u, second, floor)[k - 1]) for k in ks}
    for k in ks:
        values["subspace", k] = overlap(u[:, :k], v[:, :k])
        values["error_overlap", k] = overlap(u[:, :k], w[:, :k])
        values["residual_overlap", k] = overlap(u[:, :k], left[:, :k])
    return values


def chance_of(
    measure: str, k: int | None, values: dict[tuple[str, int | None], float], width: int, n: int
) -> tuple[float, float, float]:
    """Chance level of a measure and its 95% range, NaN where there is none, given all measures of the layer.

    k/d with the range over random subspaces for what is held against the signal's subspace; 1/n for `shift_share`,
    which is what n independent errors around zero give.
    """
    if measure == "shift_share":
        return 1 / n, np.nan, np.nan
    if k is None or measure == "signal_share":
        return np.nan, np.nan, np.nan
    if measure in ("subspace", "error_overlap", "residual_overlap"):
        return random_share(k, width, float(k))
    return random_share(k, width, values[measure.replace("share", "directions"), None])


def cka_table(
    full: Float[np.ndarray, "n layers d"],
    quantized: Float[np.ndarray, "n layers d"],
    parts: list[Int[np.ndarray, " _"]],
    pairs: Collection[tuple[int, int]] | None = None,
) -> pd.DataFrame:
    """`cka` and `cka_debiased` of pairs of layers, with jackknife intervals over the blocks `parts` of rows.

    The arrays may be memory-mapped: one pair of layers is read at a time. `chance` is the mean over shuffled pairings.

    Args:
        pairs: (full precision, quantized) layers, counted from 0; None for every layer with every layer.
    """
    pairs = list(np.ndindex(full.shape[1], quantized.shape[1])) if pairs is None else pairs
    n = sum(map(len, parts))
    rows = []
    with _threads(full.shape[2]):
        own_full = {i: _own(full[:, i], parts) for i in sorted({i for i, _ in pairs})}
        own_quantized = {j: _own(quantized[:, j], parts) for j in sorted({j for _, j in pairs})}
        for i, j in pairs:
            both = [(hsic(c), hsic(c, debiased=True)) for c in replicates(full[:, i], quantized[:, j], parts)]
            (norms_full, filled_full), (norms_quantized, filled_quantized) = own_full[i], own_quantized[j]
            values = cosine(np.array(both), norms_full, norms_quantized)
            chance = cka_chance(filled_full, filled_quantized, n)
            rows.append(_row("cka", i, j, True, None, values[:, 0], (chance, np.nan, np.nan), n))
            rows.append(_row("cka_debiased", i, j, True, None, values[:, 1], (0.0, np.nan, np.nan), n))
    return pd.DataFrame(rows).astype({"k": "Int64"})


def _own(layer: np.ndarray, parts: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """HSIC of a layer with itself, plain and debiased (replicate, 2), and its participation on all rows."""
    norms = [(hsic(moment), hsic(moment, debiased=True)) for moment in replicates(layer, layer, parts)]
    total = next(replicates(layer, layer, parts))
    return np.array(norms), participation(total.second(centred=True), RESOLUTION * total.square_x)


def aligned_table(
    full: Float[np.ndarray, "n layers d"],
    quantized: Float[np.ndarray, "n layers d"],
    parts: list[Int[np.ndarray, " _"]],
    ks: Sequence[int],
) -> pd.DataFrame:
    """The measures of `aligned` for every layer, with and without the mean removed; intervals as in `cka_table`."""
    n = sum(map(len, parts))
    rows = []
    for layer in range(full.shape[1]):
        x, y = full[:, layer], quantized[:, layer]
        triples = zip(replicates(x, x, parts), replicates(y, y, parts), replicates(x, y, parts), strict=True)
        with _threads(full.shape[2]):
            found = [{centred: aligned(*triple, ks, centred) for centred in (True, False)} for triple in triples]
        for centred in (True, False):
            for measure, k in found[0][centred]:
                values = np.array([replicate[centred][measure, k] for replicate in found])
                chance = chance_of(measure, k, found[0][centred], full.shape[2], n)
                rows.append(_row(measure, layer, layer, centred, k, values, chance, n))
    return pd.DataFrame(rows).astype({"k": "Int64"})


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

    Memory-mapped; row i of one belongs to row i of the other.
    """
    other = Trace.record(study.runner(label), study.inside, ["resid_post"], positions, study.run / "trace")
    return study.trace("resid_post", positions=positions)["resid_post"], other["resid_post"]


def compare(
    study: Study, label: str, positions: Sequence[Positions] = ("last",), ks: Sequence[int] | None = None,
    n_blocks: int = 20,
) -> pd.DataFrame:  # fmt: skip
    """Every measure of one variant against full precision, on the residual stream after each layer, on `study.inside`.

    Args:
        positions: which tokens to compare, see `rows_of`. "last" by default: the answer is read there, and one row per
            prompt makes rows independent.
        ks: numbers of directions that count as signal; None for a sixteenth of the width (`SHARE_OF_WIDTH`).
        n_blocks: random blocks of prompts for the jackknife; the time for intervals grows with it.

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
