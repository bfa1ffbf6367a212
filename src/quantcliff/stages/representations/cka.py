"""Linear CKA from streamed moments: plain, debiased, and its level by chance."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from quantcliff.stages.representations.moments import Cross, replicates
from quantcliff.stages.representations.subspaces import RESOLUTION, participation
from quantcliff.stages.representations.views import centre, gram, kept

ROWS_AT_MOST = 1000
"""Rows up to which Gram matrices of all layers are held in memory: 0.5 GB for 60 of them."""


CkaOf = Iterator[tuple[tuple[int, int], Float64[np.ndarray, "replicate 2"], float]]
"""Layers of a pair, their plain and debiased CKA, and the chance level of the plain one."""


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


def hsic_of_rows(
    grams: Float64[np.ndarray, "layer n n"], others: Float64[np.ndarray, "other n n"]
) -> Float64[np.ndarray, "layer other 2"]:
    """`hsic`, plain and debiased, of every layer with every other, from their centred Gram matrices."""
    n = grams.shape[1]
    own, other = (np.diagonal(side, axis1=1, axis2=2) for side in (grams, others))
    plain = grams.reshape(len(grams), -1) @ others.reshape(len(others), -1).T
    debiased = np.full_like(plain, np.nan)
    if n > 3:
        debiased = plain - n / (n - 2) * own @ other.T
        debiased += np.outer(own.sum(1), other.sum(1)) / ((n - 1) * (n - 2))
    return np.stack([plain, debiased], -1)


def cka_of_rows(
    full: Float64[np.ndarray, "layer n n"], quantized: Float64[np.ndarray, "other n n"], rows: Int[np.ndarray, " m"]
) -> tuple[Float64[np.ndarray, "layer other 2"], Float64[np.ndarray, "layer other"]]:
    """`cka`, plain and debiased, and `cka_chance` of every layer with every other, from the Gram matrices of some rows.

    The same numbers as from moments, in less time where there are fewer rows than twice the width.
    """
    norms, filled, centred = [], [], []
    for side in (full, quantized):
        taken = side[:, rows[:, None], rows]
        grams = centre(taken)
        energy, least = (np.trace(each, axis1=1, axis2=2) for each in (grams, taken))
        grams[energy <= RESOLUTION * least] = np.nan
        norms.append(np.array([hsic_of_rows(gram[None], gram[None])[0, 0] for gram in grams]))
        filled.append(np.array([participation(gram) for gram in grams]))
        centred.append(grams)
    values = cosine(*np.broadcast_arrays(hsic_of_rows(*centred), norms[0][:, None], norms[1][None]))
    return values, np.asarray(cka_chance(np.array(filled[0])[:, None], np.array(filled[1]), len(rows)))


def cka(xx: Cross, yy: Cross, xy: Cross, debiased: bool = False) -> float:
    """Linear CKA (Kornblith et al. 2019, arXiv 1905.00414) of two activation matrices from their moments.

    Between 0 and 1, but with few rows for the width plain CKA of unrelated data is far above 0 (`cka_chance`); the
    debiased one is 0 on average there and may be negative. NaN where x or y does not vary, and where a debiased norm
    is not positive.
    """
    values = np.array([[hsic(cross, debiased)] for cross in (xy, xx, yy)])
    return float(cosine(*values)[0])


def cosine(
    xy: Float64[np.ndarray, "*shape"], xx: Float64[np.ndarray, "*shape"], yy: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """xy / sqrt(xx yy), NaN where xx or yy is not positive."""
    positive = (xx > 0) & (yy > 0)
    return xy / np.sqrt(np.where(positive, xx * yy, np.nan))


def cka_chance(participation_x: float | np.ndarray, participation_y: float | np.ndarray, n: int) -> float | np.ndarray:
    """Mean of plain CKA over all shuffles of the rows of y, exactly: tr(K) tr(L) / ((n - 1) ||K|| ||L||).

    K and L are the centred Gram matrices; tr(K)/||K|| is the root of the `participation` of the centred moment of x.
    So chance is the geometric mean of how many directions the two fill, over n - 1. Debiased CKA has chance 0.
    """
    return np.sqrt(np.multiply(participation_x, participation_y)) / (n - 1)


def cka_pairs(
    full: Float[np.ndarray, "n layers d"], quantized: Float[np.ndarray, "n layers d"],
    parts: list[Int[np.ndarray, " _"]], pairs: Sequence[tuple[int, int]],
) -> CkaOf:  # fmt: skip
    """CKA of pairs of layers, on the rows of all `parts` and, for the jackknife, on all but each part in turn."""
    ways = _cka_by_rows if by_rows(sum(map(len, parts)), full.shape[2]) else _cka_by_moments
    return ways(full, quantized, parts, pairs)


def by_rows(n: int, width: int) -> bool:
    """Whether n rows are few enough to work with Gram matrices (n x n) rather than moments (width x width)."""
    return n <= min(2 * width, ROWS_AT_MOST)


def _cka_by_rows(full: np.ndarray, quantized: np.ndarray, parts: list[np.ndarray], pairs: Sequence) -> CkaOf:
    rows, (i, j) = np.concatenate(parts), np.array(pairs).T
    sides, places = [], []
    for activations, asked in ((full, i), (quantized, j)):
        layers, place = np.unique(asked, return_inverse=True)
        sides.append(np.stack([gram(activations[rows, layer]) for layer in layers]))
        places.append(place)
    found = [[part[tuple(places)] for part in cka_of_rows(sides[0], sides[1], some)] for some in kept(parts)]
    values, chances = np.stack([value for value, _ in found], 1), found[0][1]
    yield from zip(pairs, values, chances.tolist(), strict=True)


def _cka_by_moments(full: np.ndarray, quantized: np.ndarray, parts: list[np.ndarray], pairs: Sequence) -> CkaOf:
    own_full = {i: _own(full[:, i], parts) for i in sorted({i for i, _ in pairs})}
    own_quantized = {j: _own(quantized[:, j], parts) for j in sorted({j for _, j in pairs})}
    n = sum(map(len, parts))
    for i, j in pairs:
        both = [(hsic(c), hsic(c, debiased=True)) for c in replicates(full[:, i], quantized[:, j], parts)]
        (norms_full, filled_full), (norms_quantized, filled_quantized) = own_full[i], own_quantized[j]
        values = cosine(np.array(both), norms_full, norms_quantized)
        yield (i, j), values, float(cka_chance(filled_full, filled_quantized, n))


def _own(layer: np.ndarray, parts: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """HSIC of a layer with itself, plain and debiased (replicate, 2), and its participation on all rows."""
    norms = [(hsic(moment), hsic(moment, debiased=True)) for moment in replicates(layer, layer, parts)]
    total = next(replicates(layer, layer, parts))
    return np.array(norms), participation(total.second(centred=True), RESOLUTION * total.square_x)
