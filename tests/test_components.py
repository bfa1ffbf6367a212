"""Components: each measure against its definition, then the measured model against cases with a known answer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from quantcliff import components as c

seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=25, deadline=None)


def patterns(seed: int, rows: int = 3, keys: int = 7, sharpness: float = 3.0) -> torch.Tensor:
    """Random probabilities over keys, some of them sharp."""
    noise = torch.randn(rows, keys, generator=torch.Generator().manual_seed(seed))
    return (sharpness * noise).softmax(-1)


def vectors(seed: int, rows: int = 3, width: int = 40) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_entropy_of_uniform_and_one_hot():
    uniform, one_hot = torch.full((1, 5), 0.2), torch.eye(5)[:1]
    assert c.normalised_entropy(uniform, torch.tensor([5])).item() == pytest.approx(1)
    assert c.normalised_entropy(one_hot, torch.tensor([5])).item() == 0


def test_entropy_counts_visible_keys_only():
    """A query at position 2 that looks evenly at its three keys has entropy 1, whatever padding follows."""
    scores = torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    causal = scores.softmax(-1)
    measured = c.normalised_entropy(causal, torch.arange(1, 7))
    assert measured[0].isnan()
    torch.testing.assert_close(measured[1:], torch.ones(5))


@quick
@given(seeds, st.integers(1, 5))
def test_entropy_is_scipys_and_ignores_padding(seed, padding):
    p = patterns(seed)
    n_keys = torch.full((3,), 7)
    measured = c.normalised_entropy(p, n_keys)
    expected = [entropy(row.double().numpy()) / math.log(7) for row in p]
    torch.testing.assert_close(measured, torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=1e-5)
    padded = torch.nn.functional.pad(p, (0, padding))
    torch.testing.assert_close(c.normalised_entropy(padded, n_keys), measured)


@quick
@given(seeds, seeds)
def test_jensen_shannon_is_scipys_symmetric_and_bounded(a, b):
    p, q = patterns(a), patterns(b)
    measured = c.jensen_shannon(p, q)
    expected = [jensenshannon(x.double().numpy(), y.double().numpy(), base=2) ** 2 for x, y in zip(p, q, strict=True)]
    np.testing.assert_allclose(measured.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(c.jensen_shannon(q, p), measured)
    assert (measured >= 0).all()
    assert (measured <= 1).all()


@quick
@given(seeds, seeds)
def test_jensen_shannon_is_zero_only_for_equal_patterns(a, b):
    p, q = patterns(a), patterns(b)
    assert (c.jensen_shannon(p, p) == 0).all()
    assert ((c.jensen_shannon(p, q) > 0) == (a != b)).all()


def test_jensen_shannon_of_disjoint_patterns_is_one():
    p, q = torch.tensor([[0.5, 0.5, 0, 0]]), torch.tensor([[0, 0, 0.3, 0.7]])
    assert c.jensen_shannon(p, q).item() == pytest.approx(1)


@quick
@given(seeds, seeds, st.floats(0.01, 100))
def test_sign_flips_know_signs_only(a, b, scale):
    x, y = vectors(a), vectors(b)
    flips = c.sign_flips(x, y)
    torch.testing.assert_close(flips, c.sign_flips(x * scale, y))
    torch.testing.assert_close(flips, c.sign_flips(y, x))
    torch.testing.assert_close(flips, ((x > 0) != (y > 0)).float().mean(-1))
    torch.testing.assert_close(c.sign_flips(x, -y), 1 - flips)
    assert (c.sign_flips(x, x) == 0).all()
    assert (c.sign_flips(x, -x) == 1).all()


def test_sign_flips_of_unrelated_gates_are_half():
    assert c.sign_flips(vectors(0, 1, 40_000), vectors(1, 1, 40_000)).item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("n", "share", "k"), [(256, 0.01, 3), (100, 0.01, 1), (300, 0.01, 3), (700, 0.01, 7),
                                               (301, 0.01, 4), (10, 0.01, 1), (14336, 0.01, 144), (8, 1.0, 8)])  # fmt: skip
def test_top_count_rounds_up(n, share, k):
    assert c.top_count(n, share) == k


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_top_count_refuses_a_share_outside_its_range(share):
    with pytest.raises(ValueError, match="share"):
        c.top_count(10, share)


@quick
@given(seeds, seeds, st.sampled_from([0.01, 0.1, 0.25, 0.5]), st.floats(0.1, 10))
def test_top_overlap_is_set_arithmetic(a, b, share, scale):
    x, y = vectors(a), vectors(b)
    k = math.ceil(share * 40)
    expected = []
    for u, v in zip(x.abs().tolist(), y.abs().tolist(), strict=True):
        top = [set(sorted(range(40), key=lambda i, w=w: -w[i])[:k]) for w in (u, v)]
        expected.append(len(top[0] & top[1]) / len(top[0] | top[1]))
    measured = c.top_overlap(x, y, share)
    np.testing.assert_allclose(measured.numpy(), expected, rtol=1e-6)
    torch.testing.assert_close(c.top_overlap(-scale * x, y, share), measured)
    assert (c.top_overlap(x, x, share) == 1).all()


def test_chance_overlap_is_what_random_sets_give():
    x, y = vectors(0, 20_000), vectors(1, 20_000)
    for share in (0.01, 0.1, 0.5):
        assert c.top_overlap(x, y, share).mean().item() == pytest.approx(c.chance_overlap(40, share), abs=0.005)
    assert c.chance_overlap(40, 1.0) == pytest.approx(1)
    assert c.chance_overlap(100, 0.01) == pytest.approx(0.01)


@quick
@given(seeds, seeds, st.floats(0.1, 10))
def test_cosine_knows_direction_only(a, b, scale):
    x, y = vectors(a), vectors(b)
    measured = c.cosine(x, y)
    expected = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))
    torch.testing.assert_close(measured, expected)
    torch.testing.assert_close(c.cosine(scale * x, y), measured)
    torch.testing.assert_close(c.cosine(-x, y), -measured)
    rotation = torch.linalg.qr(vectors(a ^ 1, 40, 40)).Q
    torch.testing.assert_close(c.cosine(x @ rotation, y @ rotation), measured, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(c.cosine(x, x), torch.ones(3))
