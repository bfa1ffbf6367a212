"""Gram matrices and moments say the same of a pair of models, whichever of the two is smaller."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantcliff.stages.representations import cka, views
from quantcliff.stages.representations.alignment import described
from quantcliff.stages.representations.moments import Cross, blocks
from quantcliff.stages.representations.views import Features, Grams, Rows

quick = settings(deadline=None, max_examples=25)


def activations(seed, n, width, layers=None, shift=3.0):
    """Two models' activations: a spectrum that falls off, a mean, and an error that is partly a fade."""
    rng = np.random.default_rng(seed)
    shape = (n, width) if layers is None else (n, layers, width)
    x = (rng.standard_normal(shape) + shift) / np.arange(1, width + 1)
    return x.astype(np.float32), (0.8 * x + 0.1 * rng.standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("centred", [True, False])
@given(seed=st.integers(0, 2**31), n=st.integers(6, 40), width=st.integers(5, 30))
@quick
def test_rows_and_moments_give_the_same_measures(centred, seed, n, width):
    x, y = activations(seed, n, width)
    ks = [1, 3]
    moments = described(Features.of(Cross.of(x, x), Cross.of(y, y), Cross.of(x, y), centred), ks, centred)
    rows = described(Grams.of(x, y).take(np.arange(n), centred), ks, centred)
    assert list(rows) == list(moments)
    for name, value in moments.items():
        assert rows[name] == pytest.approx(value, rel=1e-6, abs=1e-8, nan_ok=True), name


@pytest.mark.parametrize("n", [3, 12])
def test_the_smaller_side_is_taken_and_a_block_left_out_is_rows_left_out(n, monkeypatch):
    x, y = activations(1, n, 6)
    parts = blocks(np.arange(n), 3, 0)
    kinds, found = zip(
        *((type(view(True)), described(view(True), [1], True)) for view in views.views(x, y, parts)), strict=True
    )
    assert set(kinds) == {Rows if n <= 6 else Features}
    chosen = [np.arange(n), *(np.setdiff1d(np.arange(n), part) for part in parts)]
    for rows, values in zip(chosen, found, strict=True):
        want = described(
            Features.of(*(Cross.of(*(z[rows] for z in pair)) for pair in ((x, x), (y, y), (x, y))), True), [1], True
        )
        assert values == pytest.approx(want, rel=1e-6, nan_ok=True)


def test_directions_that_few_rows_do_not_have_are_nan_on_both_sides():
    x, y = activations(2, 4, 9)
    triple = Cross.of(x, x), Cross.of(y, y), Cross.of(x, y)
    for view in (Features.of(*triple, True), Grams.of(x, y).take(np.arange(4), True)):
        found = described(view, [2, 6], True)
        assert found["subspace", 2] == pytest.approx(found["subspace", 2])
        assert np.isnan([found["subspace", 6], found["error_share", 6], found["residual_overlap", 6]]).all()


def test_equal_models_have_no_error_on_either_side():
    x, _ = activations(3, 5, 8)
    for view in (Features.of(*[Cross.of(x, x)] * 3, True), Grams.of(x, x).take(np.arange(5), True)):
        found = described(view, [2], True)
        assert found["subspace", 2] == pytest.approx(1)
        assert np.isnan(found["error_share", 2])


def test_only_the_subspaces_asked_for_are_given():
    x, y = activations(4, 9, 5)
    view = Grams.of(x, y).take(np.arange(9), True)
    some, all_of_them = described(view, [2], True, ["subspace"]), described(view, [2], True)
    assert set(all_of_them) - set(some) == {("error_overlap", 2), ("residual_overlap", 2)}
    assert some.items() <= all_of_them.items()


@given(seed=st.integers(0, 2**31), n=st.integers(5, 30), width=st.integers(2, 12))
@quick
def test_cka_by_rows_equals_cka_by_moments(seed, n, width):
    x, y = activations(seed, n, width, layers=3)
    y[:, 2] = 1.0  # a layer that does not vary has no CKA
    parts, pairs = blocks(np.arange(n), 4, 0), [(0, 0), (2, 1), (0, 2), (1, 1)]
    ways = (list(way(x, y, parts, pairs)) for way in (cka._cka_by_rows, cka._cka_by_moments))
    for (pair, values, chance), (other_pair, other_values, other_chance) in zip(*ways, strict=True):
        assert pair == other_pair
        np.testing.assert_allclose(values, other_values, rtol=1e-5, atol=1e-7)
        assert chance == pytest.approx(other_chance, rel=1e-6, nan_ok=True)
        assert np.isnan(values).all() == (pair == (0, 2))


@pytest.mark.parametrize(("n", "width", "few"), [(10, 5, True), (11, 5, False), (1000, 600, True), (1001, 600, False)])
def test_rows_are_used_up_to_twice_the_width_and_as_memory_allows(n, width, few):
    assert cka.by_rows(n, width) is few
