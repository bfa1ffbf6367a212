"""One continuum or two kinds? A mixture of two Gaussians against one, with two controls that a gap must pass.

A Gaussian mixture prefers two components for other reasons than two kinds: a bent line is not one Gaussian, and a grid
with four widths has four heaps by design. So the gain in BIC is held against two simulations, each with as many cells:
from the one Gaussian that was fitted, and from one smooth bent line, evenly filled. And the middle between the two
components is looked at: two kinds leave it empty.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from quantcliff import stats
from quantcliff.stats import Interval
from quantcliff.study.shelf import Shelf

COORDINATES = ("scaled_kappa", "fact_snr", "fed", "sign_flips", "cka")
"""Where a cell stands: margin contraction, SNR of the last stream, answers with clean input to the last layer, gates
that flip, likeness of streams. The answers themselves are left out: they are what is to be explained."""

DRAWS = 200
STRONG, RARE, EMPTY = 10.0, 0.05, 0.1
"""Difference in BIC that counts as strong evidence (Kass and Raftery 1995), level of the simulations, and share of the
cells below which the middle third of the way between two components counts as empty."""

DEGREE, TWO, OPEN = "a matter of degree", "two kinds", "undecided"

Cells = Float[np.ndarray, "cell coordinate"]


def standardised(grid: pd.DataFrame, like: pd.DataFrame | None = None) -> Cells:
    """The coordinates of one model's cells, with mean 0 and standard deviation 1.

    Args:
        like: cells whose mean and deviation are taken, if not those of the grid.
    """
    values, units = (table[list(COORDINATES)].to_numpy(float) for table in (grid, grid if like is None else like))
    return (values - units.mean(0)) / units.std(0)


def mixture(x: Cells, components: int, seed: int = 0) -> GaussianMixture:
    """Best of five fits, of which one component needs no second. A thousandth is added to every variance, or a flat
    component would have any likelihood."""
    starts = 1 if components == 1 else 5
    return GaussianMixture(components, n_init=starts, reg_covar=1e-3, random_state=seed).fit(x)


def gain(x: Cells, seed: int = 0) -> float:
    """BIC of one Gaussian less that of two: above 0 two are preferred."""
    return float(mixture(x, 1, seed).bic(x) - mixture(x, 2, seed).bic(x))


@dataclass(frozen=True)
class Line:
    """A smooth bent line: each coordinate a parabola over the first principal component, and normal noise around it."""

    place: Float[np.ndarray, " cell"]
    parabolas: Float[np.ndarray, "3 coordinate"]
    noise: Float[np.ndarray, "coordinate coordinate"]

    @classmethod
    def of(cls, x: Cells) -> "Line":
        middle = x - x.mean(0)
        place = middle @ np.linalg.svd(middle, full_matrices=False)[2][0]
        parabolas = np.polynomial.polynomial.polyfit(place, x, 2)
        rest = x - np.polynomial.polynomial.polyval(place, parabolas).T
        return cls(place, parabolas, np.atleast_2d(np.cov(rest.T)))

    def draw(self, rng: np.random.Generator) -> Cells:
        """As many cells, evenly along the line."""
        place = rng.uniform(self.place.min(), self.place.max(), len(self.place))
        noise = rng.multivariate_normal(np.zeros(len(self.noise)), self.noise, len(place))
        return np.polynomial.polynomial.polyval(place, self.parabolas).T + noise


@dataclass(frozen=True, eq=False)
class Kinds:
    """What was found about a set of cells.

    Attributes:
        gain: see `gain`; `from_one`, `from_line`: of the simulations.
        members: component of each cell, 0 the one with the higher first coordinate.
        way: where each cell stands between the two means, 0 at the first, 1 at the second.
        means: of the two components.
    """

    gain: float
    from_one: Float[np.ndarray, " draw"]
    from_line: Float[np.ndarray, " draw"]
    members: Int[np.ndarray, " cell"]
    way: Float[np.ndarray, " cell"]
    means: Float[np.ndarray, "2 coordinate"]

    @property
    def middle(self) -> Interval:
        """Share of the cells in the middle third of the way."""
        return stats.share(in_middle(self.way))

    @property
    def held(self) -> dict[str, bool]:
        """The three conditions of "two kinds"."""
        return {
            "one": self.gain > STRONG and rarity(self.gain, self.from_one) < RARE,
            "line": rarity(self.gain, self.from_line) < RARE,
            "middle": float(self.middle.estimate) < EMPTY,
        }

    @property
    def verdict(self) -> str:
        """`TWO` if all three hold; `DEGREE` if one Gaussian will do, or neither of the others holds; else `OPEN`."""
        held = self.held
        if all(held.values()):
            return TWO
        return DEGREE if not held["one"] or not (held["line"] or held["middle"]) else OPEN


def in_middle(way: Float[np.ndarray, " cell"]) -> Bool[np.ndarray, " cell"]:
    """Which cells stand in the middle third."""
    return (way > 1 / 3) & (way < 2 / 3)


def way_of(x: Cells, means: Float[np.ndarray, "2 coordinate"]) -> Float[np.ndarray, " cell"]:
    """Where cells stand on the straight way from the first mean (0) to the second (1)."""
    apart = means[1] - means[0]
    return (x - means[0]) @ apart / (apart @ apart)


def widest(way: Float[np.ndarray, " cell"]) -> float:
    """Widest step between neighbours on the way."""
    return float(np.diff(np.sort(way)).max())


def rarity(value: float, simulated: Float[np.ndarray, " draw"]) -> float:
    """Share of simulations that reach the value, the value itself counted among them."""
    return float((1 + (simulated >= value).sum()) / (1 + len(simulated)))


def simulated(x: Cells, draws: int, seed: int) -> pd.DataFrame:
    """Gains of draws of as many cells: from the one Gaussian that was fitted (`one`), along the bent line (`line`)."""
    rng, line, one = np.random.default_rng(seed), Line.of(x), mixture(x, 1, seed)
    rows = []
    with threadpool_limits(1):  # a few cells are too few to share
        for _ in tqdm(range(draws), desc="simulating", leave=False, disable=None):
            drawn = rng.multivariate_normal(one.means_[0], one.covariances_[0], len(x))
            rows.append((gain(drawn, seed), gain(line.draw(rng), seed)))
    return pd.DataFrame(rows, columns=["one", "line"])


def kinds(x: Cells, draws: int = DRAWS, seed: int = 0, run: Path | None = None) -> Kinds:
    """One kind or two, of standardised cells.

    Args:
        run: a folder of results that keeps the simulations.
    """
    drawn = partial(simulated, x, draws, seed)
    content = [hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest(), draws, seed]
    found = drawn() if run is None else Shelf(run).kept("boundary_kinds", f"{len(x)}-cells", content, drawn)
    two = mixture(x, 2, seed)
    order = np.argsort(-two.means_[:, 0])
    means = two.means_[order]
    members = np.argsort(order)[two.predict(x)]
    from_one, from_line = found["one"].to_numpy(), found["line"].to_numpy()
    return Kinds(gain(x, seed), from_one, from_line, members, way_of(x, means), means)
