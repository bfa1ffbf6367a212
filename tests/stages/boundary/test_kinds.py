"""Two heaps are two kinds; one heap, and a bent line that is evenly filled, are not."""

import numpy as np
import pandas as pd
import pytest
from made_grid import grid

from quantcliff.stages.boundary import COORDINATES, kinds, standardised
from quantcliff.stages.boundary.kinds import DEGREE, OPEN, TWO, Kinds, Line, gain, rarity

DRAWS = 30


def line(n: int = 120, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    place = draw.uniform(-2, 2, n)
    return np.stack([place, place**2 / 2, -place], 1) + 0.1 * draw.normal(size=(n, 3))


def heaps(seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(120, 3)) * 0.3 + np.repeat([[2.0, 1.0, 0.0], [-2.0, 0.0, 1.0]], 60, axis=0)


def test_two_heaps_are_two_kinds() -> None:
    found = kinds(heaps(), DRAWS)
    assert found.verdict == TWO and all(found.held.values())
    assert found.members.tolist() == [0] * 60 + [1] * 60, "the first is the one with the higher first coordinate"
    assert found.middle.estimate == 0
    assert abs(found.way[:60].mean()) < 0.1 and abs(found.way[60:].mean() - 1) < 0.1


def test_one_heap_is_a_matter_of_degree() -> None:
    one = np.random.default_rng(3).normal(size=(120, 3))
    found = kinds(one, DRAWS)
    assert found.verdict == DEGREE and not found.held["one"] and found.gain < 10


def test_a_bent_line_is_not_two_kinds_though_two_gaussians_fit_it_better() -> None:
    found = kinds(line(), DRAWS)
    assert found.gain > 10 and found.held["one"], "what BIC alone would call two"
    assert not found.held["line"] and not found.held["middle"]
    assert found.verdict == DEGREE


def test_what_follows_from_the_conditions() -> None:
    one, other = np.zeros(99), np.full(99, 50.0)
    empty, full = np.repeat([0.0, 1.0], 50), np.full(100, 0.5)
    nobody = np.zeros(100, dtype=int)
    assert Kinds(20.0, one, one, nobody, empty).verdict == TWO
    assert Kinds(20.0, one, one, nobody, full).verdict == OPEN
    assert Kinds(20.0, one, other, nobody, empty).verdict == OPEN
    assert Kinds(20.0, one, other, nobody, full).verdict == DEGREE
    assert Kinds(9.0, one, one, nobody, empty).verdict == DEGREE
    assert Kinds(20.0, other, one, nobody, empty).verdict == DEGREE
    assert rarity(1.0, one) == 0.01 and rarity(0.0, one) == 1


def test_the_line_that_is_drawn_is_the_one_that_was_fitted() -> None:
    x = line()
    found = Line.of(x)
    drawn = found.draw(np.random.default_rng(0))
    assert drawn.shape == x.shape
    again = Line.of(np.concatenate([drawn, found.draw(np.random.default_rng(1))]))
    assert np.sqrt(np.diag(again.noise)).max() < 0.2
    assert abs(drawn.std(0) - x.std(0)).max() < 0.25


def test_cells_are_standardised_within_their_model() -> None:
    table = grid()
    values = pd.DataFrame(standardised(table)).groupby(table["model"])
    assert values.mean().abs().to_numpy().max() < 1e-9
    assert values.std(ddof=0).to_numpy() == pytest.approx(1)
    assert standardised(table).shape == (len(table), len(COORDINATES))
    assert gain(line()) > gain(heaps()) > 10, "the larger gain is no evidence of two kinds"
