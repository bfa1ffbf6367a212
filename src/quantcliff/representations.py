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
`residual_share`       like `error_share`, of what the fade leaves: H_Q - g H_FP
Everything follows from streamed second moments (`moments.Cross`): memory grows with width squared, not with rows.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int
from scipy import linalg
from scipy.stats import beta

from quantcliff.errors import InputError
from quantcliff.moments import Cross, jackknife, replicates

RESOLUTION = 1e-12
"""A moment below this share of the sums it is the difference of is rounding error, and counts as zero."""

SHARE_OF_WIDTH = 1 / 16
"""Default k over width. A fixed share, so that the chance level k/d is one number for every layer and every model;
a k that explains a fixed share of variance would change from layer to layer and move chance with it."""

RANGES = {"gain": (-np.inf, np.inf), "error_size": (0, np.inf), "cka_debiased": (-np.inf, 1)}
"""What a measure's interval is cut to; the others are shares, from 0 to 1."""


def default_k(width: int) -> int:
    """Directions that count as signal unless told otherwise: a sixteenth of the width, at least 1."""
    return max(1, round(width * SHARE_OF_WIDTH))


def hsic(cross: Cross, debiased: bool = False) -> float:
    """||X^T Y||_F^2 with column means removed; NaN where x or y does not vary.

    Up to a factor that cancels in CKA this is HSIC with a linear kernel. Debiased: the U-statistic of Song et al.
    (2007), needs 4 rows, NaN with fewer.
    """
    lengths = cross.centred_squares()
    if lengths.x <= RESOLUTION * cross.square_x or lengths.y <= RESOLUTION * cross.square_y:
        return np.nan
    value = float((cross.second(centred=True) ** 2).sum())
    if not debiased:
        return value
    n = cross.n
    return value - n / (n - 2) * lengths.xy + lengths.x * lengths.y / ((n - 1) * (n - 2)) if n > 3 else np.nan


def cka(xx: Cross, yy: Cross, xy: Cross, debiased: bool = False) -> float:
    """Linear CKA (Kornblith et al. 2019, arXiv 1905.00414) of two activation matrices from their moments.

    Between 0 and 1, but with few rows for the width plain CKA of unrelated data is far above 0 (`cka_chance`); the
    debiased one is 0 on average there and may be negative. NaN where x or y does not vary, and where a debiased norm
    is not positive.
    """
    values = np.array([[hsic(cross, debiased)] for cross in (xy, xx, yy)])
    return float(_cosine(*values)[0])


def _cosine(xy: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    positive = (xx > 0) & (yy > 0)
    return xy / np.sqrt(np.where(positive, xx * yy, np.nan))


def cka_chance(participation_x: float, participation_y: float, n: int) -> float:
    """Mean of plain CKA over all shuffles of the rows of y, exactly: tr(K) tr(L) / ((n - 1) ||K|| ||L||).

    K and L are the centred Gram matrices; tr(K)/||K|| is the root of the `participation` of the centred moment of x.
    So chance is the geometric mean of how many directions the two fill, over n - 1. Debiased CKA has chance 0.
    """
    return float(np.sqrt(participation_x * participation_y) / (n - 1))


def directions(second: Float64[np.ndarray, "d d"], k: int, floor: float) -> Float64[np.ndarray, "d k"]:
    """Top-k eigenvectors of a second moment X^T X, which are the top-k right singular vectors of X.

    All NaN if the k-th eigenvalue is not above `floor`: then X does not have k directions.
    """
    width = len(second)
    values, vectors = linalg.eigh(second, subset_by_index=[width - k, width - 1], driver="evr")
    return vectors if values[0] > floor else np.full_like(vectors, np.nan)


def overlap(u: Float64[np.ndarray, "d k"], v: Float64[np.ndarray, "d k"]) -> float:
    """||U^T V||_F^2 / k of two orthonormal bases: 1 for the same subspace, 0 for orthogonal ones, k/d by chance.

    The mean squared cosine of the principal angles between the two subspaces.
    """
    return float(((u.T @ v) ** 2).sum() / u.shape[1])


def share(u: Float64[np.ndarray, "d k"], second: Float64[np.ndarray, "d d"], floor: float) -> float:
    """Share of the energy tr(X^T X) that lies in the span of u; NaN if that energy is not above `floor`."""
    energy = np.trace(second)
    return float(np.einsum("dk,de,ek->", u, second, u) / energy) if energy > floor else np.nan


def random_share(k: int, width: int, participation: float) -> tuple[float, float, float]:
    """Mean and 95% range of the energy share that a random k-dimensional subspace holds, e.g. (0.06, 0.02, 0.12).

    The mean is k/d whatever the energy's shape. The variance over all subspaces is exact, 2k(d-k)/(d(d-1)(d+2)) times
    (1/participation - 1/d), where participation = tr(S)^2/||S||^2 is the number of directions the energy fills;
    the range is that of the Beta distribution with this mean and variance, exact when participation is 1.
    """
    mean = k / width
    if np.isnan(participation):
        return mean, np.nan, np.nan
    spread = max(1 / participation - 1 / width, 0.0)
    variance = 2 * k * (width - k) / (width * (width - 1) * (width + 2)) * spread
    if variance < 1e-15:
        return mean, mean, mean
    size = mean * (1 - mean) / variance - 1
    low, high = beta.ppf([0.025, 0.975], mean * size, (1 - mean) * size)
    return mean, float(low), float(high)


def participation(second: Float64[np.ndarray, "d d"], floor: float = 0.0) -> float:
    """tr(S)^2 / ||S||_F^2: how many directions the energy fills, 1 to the width; NaN if it is not above `floor`."""
    energy = np.trace(second)
    return float(energy**2 / (second**2).sum()) if energy > floor else np.nan


def aligned(xx: Cross, yy: Cross, xy: Cross, k: int, centred: bool) -> dict[str, tuple[float, float, float, float]]:
    """The measures of one layer of both models: name -> (value, chance level, its 95% range).

    x is full precision, y quantized. Chance is k/d with the range over random subspaces; 1/n for `shift_share` (what
    independent errors around zero give); NaN where there is none. Where the error is zero or too small for float64,
    or there are fewer than k directions, the measures that need them are NaN.
    """
    signal, other, both = xx.second(centred), yy.second(centred), xy.second(centred)
    width, floor = len(signal), RESOLUTION * (xx.square_x + yy.square_x)
    error = signal + other - both - both.T
    u = directions(signal, k, floor)
    v = directions(other, k, floor)
    w = directions(error, k, floor)
    size, energy = np.trace(error), np.trace(signal)
    gain = float(np.trace(both) / energy) if energy > floor else np.nan
    residual = other - gain * (both + both.T) + gain**2 * signal
    none = (np.nan, np.nan, np.nan)
    subspaces = random_share(k, width, float(k))
    values = {
        "subspace": (overlap(u, v), *subspaces),
        "error_share": (share(u, error, floor), *random_share(k, width, participation(error, floor))),
        "error_overlap": (overlap(u, w), *subspaces),
        "signal_share": (share(u, signal, floor), *none),
        "error_size": (float(size / energy) if energy > floor else np.nan, *none),
        "gain": (gain, *none),
        "fade_share": (float((1 - gain) ** 2 * energy / size) if size > floor else np.nan, *none),
        "residual_share": (share(u, residual, floor), *random_share(k, width, participation(residual, floor))),
    }
    if not centred:
        shift = yy.x - xx.x
        held = float(shift @ shift / xx.n / size) if size > floor else np.nan
        values["shift_share"] = (held, 1 / xx.n, np.nan, np.nan)
    return values


def cka_table(
    full: Float[np.ndarray, "n layers d"],
    quantized: Float[np.ndarray, "n layers d"],
    parts: list[Int[np.ndarray, " _"]],
) -> pd.DataFrame:
    """`cka` and `cka_debiased` of every pair of layers, with jackknife intervals over the blocks `parts` of rows.

    The arrays may be memory-mapped: one pair of layers is read at a time. `chance` is the mean over shuffled pairings.
    """
    n = sum(map(len, parts))
    norms_full, filled_full = _norms(full, parts)
    norms_quantized, filled_quantized = _norms(quantized, parts)
    rows = []
    for i, j in np.ndindex(full.shape[1], quantized.shape[1]):
        both = np.array([(hsic(c), hsic(c, debiased=True)) for c in replicates(full[:, i], quantized[:, j], parts)])
        values = _cosine(both, norms_full[i], norms_quantized[j])
        chance = cka_chance(filled_full[i], filled_quantized[j], n)
        rows.append(_row("cka", i, j, True, None, values[:, 0], (chance, np.nan, np.nan), n))
        rows.append(_row("cka_debiased", i, j, True, None, values[:, 1], (0.0, np.nan, np.nan), n))
    return pd.DataFrame(rows)


def _norms(activations: np.ndarray, parts: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """HSIC of each layer with itself, plain and debiased (layer, replicate, 2), and its participation on all rows."""
    norms, filled = [], []
    for layer in range(activations.shape[1]):
        moments = list(replicates(activations[:, layer], activations[:, layer], parts))
        norms.append([(hsic(moment), hsic(moment, debiased=True)) for moment in moments])
        filled.append(participation(moments[0].second(centred=True), RESOLUTION * moments[0].square_x))
    return np.array(norms), filled


def aligned_table(
    full: Float[np.ndarray, "n layers d"],
    quantized: Float[np.ndarray, "n layers d"],
    parts: list[Int[np.ndarray, " _"]],
    k: int,
) -> pd.DataFrame:
    """The measures of `aligned` for every layer, with and without the mean removed; intervals as in `cka_table`."""
    n = sum(map(len, parts))
    rows = []
    for layer in range(full.shape[1]):
        x, y = full[:, layer], quantized[:, layer]
        for centred in (True, False):
            triples = zip(replicates(x, x, parts), replicates(y, y, parts), replicates(x, y, parts), strict=True)
            found = [aligned(xx, yy, xy, k, centred) for xx, yy, xy in triples]
            for measure, (_, *chance) in found[0].items():
                values = np.array([replicate[measure][0] for replicate in found])
                rows.append(_row(measure, layer, layer, centred, k, values, chance, n))
    return pd.DataFrame(rows)


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
