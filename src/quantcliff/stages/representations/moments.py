"""Streamed second moments of a pair of activations, and the jackknife over blocks of prompts.

`Cross` holds what the measures of `representations` need of two activation matrices with one row per position: sums,
X^T Y and a few sums of squared lengths. It grows with the product of the two widths, never with the number of rows;
two of them add up when their rows are joined and subtract when a block of rows is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.stats import t as student

from quantcliff.stats import Interval

ROWS = 4096
"""Rows converted to float64 at a time."""


class Squares(NamedTuple):
    """Sums over rows of squared lengths, of x, of y, and of their product; column means removed."""

    x: float
    y: float
    xy: float


@dataclass(frozen=True)
class Cross:
    """Float64 sums over the n rows of x (n x dx) and y (n x dy); for x and y the same, the moments of x itself."""

    n: int
    x: Float64[np.ndarray, " dx"]
    """Sum of the rows of x."""
    y: Float64[np.ndarray, " dy"]
    """Sum of the rows of y."""
    product: Float64[np.ndarray, "dx dy"]
    """X^T Y."""
    square_x: float
    """Sum of |x_i|^2."""
    square_y: float
    """Sum of |y_i|^2."""
    square_xy: float
    """Sum of |x_i|^2 |y_i|^2."""
    x_square_y: Float64[np.ndarray, " dx"]
    """Sum of x_i |y_i|^2."""
    y_square_x: Float64[np.ndarray, " dy"]
    """Sum of y_i |x_i|^2."""

    @classmethod
    def of(cls, x: Float[np.ndarray, "n dx"], y: Float[np.ndarray, "n dy"]) -> "Cross":
        """Sums over the rows of two matrices held in memory; for many rows use `stream`."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        xx, yy = np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", y, y)
        sums = float(xx.sum()), float(yy.sum()), float(xx @ yy)
        return cls(len(x), x.sum(0), y.sum(0), x.T @ y, *sums, yy @ x, xx @ y)

    def __add__(self, other: "Cross") -> "Cross":
        return Cross(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __sub__(self, other: "Cross") -> "Cross":
        return Cross(*(getattr(self, field.name) - getattr(other, field.name) for field in fields(self)))

    def second(self, centred: bool) -> Float64[np.ndarray, "dx dy"]:
        """X^T Y, of the rows as they are or with each column's mean removed."""
        return self.product - np.outer(self.x, self.y) / self.n if centred else self.product

    def centred_squares(self) -> Squares:
        """Sums of |x_i - m|^2, |y_i - p|^2 and their product, m and p the column means."""
        m, p = self.x / self.n, self.y / self.n
        mm, pp = float(m @ m), float(p @ p)
        both = (
            self.square_xy - 2 * p @ self.y_square_x - 2 * m @ self.x_square_y + 4 * m @ self.product @ p
            + pp * self.square_x + mm * self.square_y - 3 * self.n * mm * pp
        )  # fmt: skip
        return Squares(self.square_x - self.n * mm, self.square_y - self.n * pp, float(both))


def stream(x: Float[np.ndarray, "n dx"], y: Float[np.ndarray, "n dy"], rows: Int[np.ndarray, " m"]) -> Cross:
    """`Cross` of the given rows of two arrays, which may be memory-mapped: `ROWS` rows are in memory at a time."""
    parts = (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))
    first = next(parts)
    total = Cross.of(x[first], y[first])
    for part in parts:
        total += Cross.of(x[part], y[part])
    return total


def blocks(prompt: Int[np.ndarray, " n"], count: int, seed: int) -> list[Int[np.ndarray, " _"]]:
    """Rows split into at most `count` random blocks of whole prompts of nearly equal number.

    `prompt` holds the number of the prompt that each row belongs to; rows of one prompt are never parted, since they
    are not independent.
    """
    names, number = np.unique(prompt, return_inverse=True)
    count = min(count, len(names))
    block = np.random.default_rng(seed).permutation(np.arange(len(names)) % count)[number]
    return [np.flatnonzero(block == index) for index in range(count)]


def replicates(
    x: Float[np.ndarray, "n dx"], y: Float[np.ndarray, "n dy"], parts: list[Int[np.ndarray, " _"]]
) -> Iterator[Cross]:
    """`Cross` of all rows, then of all rows but each block in turn, if there are two blocks or more.

    Reads the rows twice and holds three `Cross`es at a time.
    """
    total = stream(x, y, parts[0])
    for rows in parts[1:]:
        total += stream(x, y, rows)
    yield total
    for rows in parts if len(parts) > 1 else []:
        yield total - stream(x, y, rows)


def jackknife(values: Float64[np.ndarray, "replicates *shape"]) -> Interval:
    """Estimate and 95% interval from a statistic of all rows (first) and of all rows but one block (the rest).

    Delete-a-block jackknife (Efron and Tibshirani 1993, chapter 11) with Student's t on blocks - 1 degrees of
    freedom. The bounds are NaN where any replicate is, and with fewer than two blocks.
    """
    estimate, left_out = values[0], values[1:]
    count = len(left_out)
    if count < 2:
        return Interval(estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan))
    error = np.sqrt((count - 1) / count * ((left_out - left_out.mean(0)) ** 2).sum(0))
    reach = student.ppf(0.975, count - 1) * error
    return Interval(estimate, estimate - reach, estimate + reach)
