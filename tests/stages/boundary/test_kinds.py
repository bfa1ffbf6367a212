"""Two heaps are two kinds; one heap, and a bent line that is evenly filled, are not."""

import sys

import numpy as np
import pandas as pd
import pytest
from made_grid import grid

from quantcliff.stages.boundary import COORDINATES, kinds, standardised
from quantcliff.stages.boundary.kinds import DEGREE, OPEN, TWO, Kinds, Line, gain, in_middle, rarity, way_of, widest

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


def test_simulations_are_kept_by_what_they_depend_on(tmp_path, monkeypatch) -> None:
    first = kinds(heaps(), 3, run=tmp_path)
    monkeypatch.setattr(sys.modules[Kinds.__module__], "simulated", lambda *given: pd.DataFrame())
    again = kinds(heaps(), 3, run=tmp_path)
    assert again.gain == first.gain
    for name in ("from_one", "from_line", "members", "way", "means"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
    for other in ({"draws": 4}, {"draws": 3, "seed": 1}, {"draws": 3, "x": heaps(1)}):
        with pytest.raises(KeyError, match="one"):
            kinds(**{"x": heaps(), "run": tmp_path, **other})


def test_one_heap_is_a_matter_of_degree() -> None:
    one = np.random.default_rng(3).normal(size=(120, 3))
    found = kinds(one, DRAWS)
    assert found.verdict == DEGREE and not found.held["one"] and found.gain < 10


def test_a_bent_line_is_not_two_kinds_though_two_gaussians_fit_it_better() -> None:
    found = kinds(line(), DRAWS)
    assert found.gain > gain(heaps()) > 10, "the larger gain is no evidence of two kinds"
    assert found.held["one"], "what BIC alone would call two"
    assert not found.held["line"] and not found.held["middle"]
    assert found.verdict == DEGREE


def test_what_follows_from_the_conditions() -> None:
    one, other = np.zeros(99), np.full(99, 50.0)
    empty, full = np.repeat([0.0, 1.0], 50), np.full(100, 0.5)
    nobody, means = np.zeros(100, dtype=int), np.zeros((2, 5))
    assert Kinds(20.0, one, one, nobody, empty, means).verdict == TWO
    assert Kinds(20.0, one, one, nobody, full, means).verdict == OPEN
    assert Kinds(20.0, one, other, nobody, empty, means).verdict == OPEN
    assert Kinds(20.0, one, other, nobody, full, means).verdict == DEGREE
    assert Kinds(9.0, one, one, nobody, empty, means).verdict == DEGREE
    assert Kinds(20.0, other, one, nobody, empty, means).verdict == DEGREE
    assert rarity(1.0, one) == 0.01 and rarity(0.0, one) == 1


def test_the_line_that_is_drawn_is_the_one_that_was_fitted() -> None:
    x = line()
    found = Line.of(x)
    drawn = found.draw(np.random.default_rng(0))
    assert drawn.shape == x.shape
    again = Line.of(np.concatenate([drawn, found.draw(np.random.default_rng(1))]))
    assert np.sqrt(np.diag(again.noise)).max() < 0.2
    assert abs(drawn.std(0) - x.std(0)).max() < 0.25


def test_cells_are_standardised() -> None:
    table = grid()
    atlas, real = (table[table["model"] == name] for name in ("atlas", "smollm2"))
    values = standardised(atlas)
    assert values.mean(0) == pytest.approx(0) and values.std(0) == pytest.approx(1)
    assert values.shape == (144, len(COORDINATES))
    again = standardised(pd.concat([atlas, real]), like=atlas)
    assert (again[:144] == values).all() and again[144:].shape == (12, len(COORDINATES))
    back = again[144:, -1] * atlas["cka"].std(ddof=0) + atlas["cka"].mean()
    assert back == pytest.approx(real["cka"].to_numpy())


def test_the_way_from_one_component_to_the_other() -> None:
    means = np.array([[0.0, 0.0], [3.0, 4.0]])
    x = np.array([[0.0, 0.0], [3.0, 4.0], [1.5, 2.0], [1.5 - 4, 2.0 + 3], [-3.0, -4.0]])
    assert way_of(x, means).tolist() == pytest.approx([0, 1, 0.5, 0.5, -1])
    assert in_middle(np.array([0.3, 0.34, 0.66, 0.67])).tolist() == [False, True, True, False]
    assert widest(np.array([0.9, 0.0, 0.5])) == pytest.approx(0.5)
