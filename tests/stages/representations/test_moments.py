"""Streamed moments and the jackknife against direct computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from quantcliff.stages.representations import moments
from quantcliff.stages.representations.moments import Cross, blocks, jackknife, replicates, stream


@pytest.fixture
def pair():
    """40 rows of width 5 and 7, with means that are large beside the spread, in float32 as activations are."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5)) + rng.normal(0, 30, 5)
    y = x @ rng.standard_normal((5, 7)) + rng.standard_normal((40, 7)) - 20
    return x.astype(np.float32), y.astype(np.float32)


def same(one, other, rtol=1e-10):
    for name in Cross.__dataclass_fields__:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol)


def test_second_moment_equals_numpy(pair):
    x, y = (array.astype(np.float64) for array in pair)
    cross = Cross.of(*pair)
    np.testing.assert_allclose(cross.second(centred=False), x.T @ y, rtol=1e-12)
    np.testing.assert_allclose(cross.second(centred=True) / 39, np.cov(x.T, y.T)[:5, 5:], rtol=1e-9)


def test_centred_squares_equal_direct_sums(pair):
    x, y = (array.astype(np.float64) - array.astype(np.float64).mean(0) for array in pair)
    a, b = (x**2).sum(1), (y**2).sum(1)
    np.testing.assert_allclose(Cross.of(*pair).centred_squares(), [a.sum(), b.sum(), a @ b], rtol=1e-7)


def test_streaming_in_pieces_equals_one_piece(pair, monkeypatch, tmp_path):
    np.save(tmp_path / "x.npy", pair[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.array([3, 1, 17, 39, 20, 21, 22])
    monkeypatch.setattr(moments, "ROWS", 3)
    same(stream(mapped, pair[1], rows), Cross.of(pair[0][rows], pair[1][rows]))


def test_memory_does_not_grow_with_rows():
    size = {n: sum(np.asarray(v).nbytes for v in vars(Cross.of(*np.ones((2, n, 6)))).values()) for n in (10, 1000)}
    assert size[10] == size[1000]


def test_replicates_are_everything_then_all_but_one_block(pair):
    parts = blocks(np.arange(40), 4, seed=0)
    found = list(replicates(*pair, parts))
    assert len(found) == 5
    same(found[0], Cross.of(*pair))
    for part, moment in zip(parts, found[1:], strict=True):
        keep = np.setdiff1d(np.arange(40), part)
        same(moment, Cross.of(pair[0][keep], pair[1][keep]), rtol=1e-8)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 10), st.integers(0, 5))
def test_blocks_cover_every_row_once_and_part_no_prompt(n_prompts, count, seed):
    prompt = np.repeat(np.arange(n_prompts) * 7, np.arange(n_prompts) % 3 + 1)
    parts = blocks(prompt, count, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(prompt)))
    homes = [set(prompt[rows]) for rows in parts]
    assert sum(map(len, homes)) == n_prompts
    sizes = [len(home) for home in homes]
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == min(count, n_prompts)


def test_blocks_are_not_in_file_order_but_repeatable():
    one, again, other = (blocks(np.arange(100), 5, seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(one, other, strict=True))
    assert (np.diff(one[0]) > 1).any()


def test_jackknife_of_a_mean_is_the_t_interval():
    values = np.random.default_rng(0).normal(3, 2, 25)
    left_out = [np.delete(values, index).mean() for index in range(25)]
    found = jackknife(np.array([values.mean(), *left_out]))
    want = scipy_stats.t.interval(0.95, 24, values.mean(), scipy_stats.sem(values))
    np.testing.assert_allclose([found.low, found.high], want)
    assert found.estimate == values.mean()


def test_jackknife_gives_no_interval_where_it_cannot():
    assert np.isnan(jackknife(np.array([0.5, 0.4])).low)
    assert np.isnan(jackknife(np.array([0.5, 0.4, np.nan])).high)
    found = jackknife(np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 3.0]]))
    assert found.low[0] == found.high[0] == 1
    assert found.low[1] < 2 < found.high[1]
