"""Two sets of activations from either side: by their directions (d x d) or by their rows (n x n).

All that `representations` asks of X (full precision) and Y (quantized), and of X - Y and the like, follows from inner
products. With more rows than the width the second moments X^T X, Y^T Y, X^T Y hold them; with fewer the Gram matrices
X X^T, Y Y^T, X Y^T do, in a smaller matrix: 100 prompts of a model 4,096 wide need 100 x 100 numbers, and to leave out
a block of rows is to leave out rows and columns. Both give the same numbers (tested).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

from quantcliff.stages.representations.moments import Cross, replicates
from quantcliff.stages.representations.subspaces import RESOLUTION, above, directions, overlap, share

Mix = tuple[float, float]
"""The activations a X + b Y, as (a, b)."""

SIGNAL, OTHER, ERROR = (1.0, 0.0), (0.0, 1.0), (-1.0, 1.0)


class Basis(NamedTuple):
    """The top directions of some activations; what `vectors` holds is the view's own business."""

    of: Mix
    vectors: Float64[np.ndarray, "size k"]


@dataclass(frozen=True)
class View:
    """Inner products of X and Y, taken over rows (`Features`) or over directions (`Rows`).

    Attributes:
        n: rows.
        xx, yy, xy: X against X, Y against Y, X against Y.
        floor: energy below which activations count as zero.
    """

    n: int
    xx: Float64[np.ndarray, "size size"]
    yy: Float64[np.ndarray, "size size"]
    xy: Float64[np.ndarray, "size size"]
    floor: float

    def form(self, one: Mix, other: Mix) -> Float64[np.ndarray, "size size"]:
        """One against other, of X and Y mixed."""
        (a, b), (c, d) = one, other
        return a * c * self.xx + b * d * self.yy + a * d * self.xy + b * c * self.xy.T

    def energy(self, of: Mix, other: Mix | None = None) -> float:
        """Sum of squared lengths of all rows, or of their products with the same rows of `other`."""
        return float(np.trace(self.form(of, other or of)))


@dataclass(frozen=True)
class Features(View):
    """From second moments, X^T X and so on."""

    shift: Float64[np.ndarray, " d"]
    """Sum of the rows of Y - X."""

    @classmethod
    def of(cls, xx: Cross, yy: Cross, xy: Cross, centred: bool) -> "Features":
        floor = RESOLUTION * (xx.square_x + yy.square_x)
        return cls(xx.n, xx.second(centred), yy.second(centred), xy.second(centred), floor, yy.x - xx.x)

    def basis(self, of: Mix, k: int) -> Basis:
        """Its top-k right singular vectors."""
        return Basis(of, directions(self.form(of, of), k, self.floor))

    def overlap(self, one: Basis, other: Basis, k: int) -> float:
        """`subspaces.overlap` of the first k directions of both."""
        return overlap(one.vectors[:, :k], other.vectors[:, :k])

    def share(self, basis: Basis, of: Mix) -> Float64[np.ndarray, " k"]:
        """`subspaces.share` of the energy of some activations in the first 1, 2, ... k directions."""
        return share(basis.vectors, self.form(of, of), self.floor)

    def common(self) -> float:
        """Squared length of the sum of all rows of Y - X."""
        return float(self.shift @ self.shift)


@dataclass(frozen=True)
class Rows(View):
    """From Gram matrices, X X^T and so on: a direction is a mix of rows, V = A^T U / S where A A^T = U S^2 U^T."""

    def basis(self, of: Mix, k: int) -> Basis:
        gram, size = self.form(of, of), min(k, self.n)
        vectors = directions(gram, size, self.floor)
        with np.errstate(invalid="ignore", divide="ignore"):
            mixes = vectors / np.sqrt((vectors * (gram @ vectors)).sum(0))
        return Basis(of, np.pad(mixes, ((0, 0), (0, k - size)), constant_values=np.nan))

    def overlap(self, one: Basis, other: Basis, k: int) -> float:
        angles = one.vectors[:, :k].T @ self.form(one.of, other.of) @ other.vectors[:, :k]
        return float((angles**2).sum() / k)

    def share(self, basis: Basis, of: Mix) -> Float64[np.ndarray, " k"]:
        along = self.form(of, basis.of) @ basis.vectors
        return (along**2).sum(0).cumsum() / above(self.energy(of), self.floor)

    def common(self) -> float:
        return float(self.form(ERROR, ERROR).sum())


@dataclass(frozen=True)
class Grams:
    """Gram matrices of one layer of both models, of which some rows are taken at a time."""

    xx: Float64[np.ndarray, "n n"]
    yy: Float64[np.ndarray, "n n"]
    xy: Float64[np.ndarray, "n n"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]) -> "Grams":
        return cls(gram(x), gram(y), x.astype(np.float64) @ y.astype(np.float64).T)

    def take(self, rows: Int[np.ndarray, " m"], centred: bool) -> Rows:
        """Of these rows alone, as they are or with their column means removed."""
        mine = [gram[np.ix_(rows, rows)] for gram in (self.xx, self.yy, self.xy)]
        floor = RESOLUTION * float(np.trace(mine[0]) + np.trace(mine[1]))
        xx, yy, xy = (centre(gram) if centred else gram for gram in mine)
        return Rows(len(rows), xx, yy, xy, floor)


def gram(x: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n n"]:
    """Inner products of all rows with all rows."""
    x = x.astype(np.float64)
    return x @ x.T


def centre(gram: Float64[np.ndarray, "*layer n n"]) -> Float64[np.ndarray, "*layer n n"]:
    """The Gram matrix of the same rows with their column means removed."""
    gram = gram - gram.mean(-1, keepdims=True)
    return gram - gram.mean(-2, keepdims=True)


def kept(parts: list[Int[np.ndarray, " _"]]) -> Iterator[Int[np.ndarray, " m"]]:
    """Places, in the rows of all parts joined, of all rows, then of all but each part, if there are two or more."""
    part = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    yield np.arange(len(part))
    for left_out in range(len(parts)) if len(parts) > 1 else []:
        yield np.flatnonzero(part != left_out)


def views(x: np.ndarray, y: np.ndarray, parts: list[np.ndarray]) -> Iterator[Callable[[bool], Features | Rows]]:
    """For all rows, and for all but each block, what makes a view with (True) or without the means removed."""
    rows = np.concatenate(parts)
    if len(rows) <= x.shape[1]:
        grams = Grams.of(x[rows], y[rows])
        yield from (partial(grams.take, some) for some in kept(parts))
    else:
        triples = zip(replicates(x, x, parts), replicates(y, y, parts), replicates(x, y, parts), strict=True)
        yield from (partial(Features.of, *triple) for triple in triples)
