"""Candidates are counted as said, twins have the entropy they are asked for, trees and draws are those of the model."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TEXT

from quantcliff import models
from quantcliff.models import Model
from quantcliff.quantizers.healing import rows_of
from quantcliff.stages.smoothness import candidates, tree
from quantcliff.stages.smoothness.inputs import NEAR, RANDOM, Inputs, Sizes, nearest

P = torch.tensor([[0.5, 0.3, 0.15, 0.04, 0.01], [0.2, 0.2, 0.2, 0.2, 0.2], [1.0, 0.0, 0.0, 0.0, 0.0]])


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Model:
    return models.load(tiny_llama)


@pytest.fixture(scope="module")
def starts(model: Model) -> torch.Tensor:
    return rows_of(model.tokenizer, TEXT * 3, 8, 3)


def test_candidates_are_counted_three_ways() -> None:
    found = candidates.effective(P)
    first = -sum(p * np.log(p) for p in (0.5, 0.3, 0.15, 0.04, 0.01))
    assert found["E1"].tolist() == pytest.approx([np.exp(first), 5.0, 1.0])
    assert found["E2"].tolist() == [3, 5, 1] and found["E3"].tolist() == [3, 5, 1]
    assert candidates.nucleus(P)[0].tolist() == [True, True, True, False, False]
    assert candidates.nucleus(P.flip(-1))[0].tolist() == [False, False, True, True, True]


def test_a_twin_has_the_entropy_it_is_asked_for() -> None:
    logits = 3 * torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    for wanted in (0.5, 2.0, 3.3):
        tau = candidates.matching(logits, wanted)
        assert float(candidates.entropy(torch.softmax(tau * logits, -1)).mean()) == pytest.approx(wanted, abs=1e-3)
    assert candidates.matching(logits, 0.5) > candidates.matching(logits, 2.0)
    assert candidates.matching(logits, 9.0) == pytest.approx(np.exp(-candidates.WIDEST)), "more than there can be"


def test_a_neighbourhood_is_the_union_of_its_predictions() -> None:
    logits, own = P[:2].clamp(min=1e-9).log(), P[2:].clamp(min=1e-9).log()
    (found,) = candidates.around(own, [logits], [1.0])
    assert found.union.tolist() == [[True] * 5] and found.sizes["union"].tolist() == [5]
    assert found.sizes["E2"].tolist() == [4]
    assert found.sizes["shift"][0] == pytest.approx((0.5 + 0.8) / 2, abs=1e-4)
    (sharp,) = candidates.around(own, [logits[:1]], [4.0])
    assert sharp.union.tolist() == [[True, True, False, False, False]]


def test_one_order_serves_all_temperatures() -> None:
    draw = torch.Generator().manual_seed(0)
    own, logits = 3 * torch.randn(2, 50, generator=draw), [3 * torch.randn(4, 50, generator=draw) for _ in range(2)]
    taus = (0.5, 1.0, 2.0)
    for tau, found in zip(taus, candidates.around(own, logits, taus), strict=True):
        for start, part in enumerate(logits):
            sets = candidates.nucleus(torch.softmax(tau * part, -1))
            assert found.union[start].equal(sets.any(0)) and found.sizes["E2"][start] == sets.sum(-1).float().mean()
    assert len({float(found.sizes["E2"].mean()) for found in candidates.around(own, logits, taus)}) == 3


def test_shares_are_of_the_first() -> None:
    one, other = torch.tensor([[True, True, True, False]]), torch.tensor([[True, False, False, True]])
    assert candidates.share_in(one, other).tolist() == pytest.approx([1 / 3])
    assert candidates.share_in(other, one).tolist() == [0.5]


def probability(model: Model, ids: torch.Tensor, tau: float) -> torch.Tensor:
    with torch.no_grad():
        return torch.softmax(tau * model.hf(ids[None]).logits[0, -1], -1)


def test_next_logits_are_the_models(model: Model, starts: torch.Tensor) -> None:
    found = candidates.next_logits(model.hf, starts)
    with torch.no_grad():
        assert torch.allclose(found, model.hf(starts).logits[:, -1], atol=1e-4)


def test_a_tree_is_what_reading_every_path_gives(model: Model, starts: torch.Tensor) -> None:
    tau = 2.0
    found = tree.trees(model.hf, starts, tau, 3, 1000)
    for start, levels in zip(starts, found, strict=True):
        nodes: set[tuple[int, ...]] = {()}
        for level in levels:
            grown = set()
            for path in nodes:
                p = probability(model, torch.cat([start, torch.tensor(path, dtype=torch.long)]), tau)
                grown |= {(*path, int(token)) for token in torch.nonzero(p >= tree.FLOOR)[:, 0]}
            assert level == grown
            nodes = grown
    assert max(len(levels[2]) for levels in found) > 1
    (narrow,) = tree.trees(model.hf, starts[:1], tau, 2, 1)
    p = probability(model, starts[0], tau)
    assert narrow[0] == {(int(p.argmax()),)} and len(narrow[1]) == 1


def test_the_likeliest_of_each_owner_stay_in_order() -> None:
    log = torch.tensor([-1.0, -3.0, -2.0, -0.5, -4.0])
    assert tree._likeliest([0, 0, 0, 1, 1], log, 2).tolist() == [0, 2, 3, 4]


def test_a_flat_model_has_no_tree(model: Model, starts: torch.Tensor) -> None:
    assert [len(level) for level in tree.trees(model.hf, starts[:1], 0.0, 3, 10)[0]] == [0, 0, 0]


def test_draws_follow_the_distribution(model: Model, starts: torch.Tensor) -> None:
    p = torch.tensor([[0.1, 0.6, 0.3]]).repeat(4000, 1)
    shares = torch.bincount(tree._drawn(p, torch.Generator().manual_seed(0)), minlength=3) / 4000
    assert torch.allclose(shares, p[0], atol=0.03)
    greedy, flat = (tree.distinct(model.hf, starts, tau, 3, 32, 1) for tau in (1e4, 0.0))
    assert greedy.tolist() == [1, 1, 1] and (flat > 30).all()
    again = tree.distinct(model.hf, starts, 0.0, 3, 32, 1)
    assert (again == flat).all()


@pytest.mark.parametrize("tau", [15.0, 20.0])
def test_continuations_are_as_if_each_were_read_alone(model: Model, starts: torch.Tensor, tau: float) -> None:
    samples, depth, draw = 6, 4, torch.Generator().manual_seed(2)
    rows = starts.repeat_interleave(samples, 0)
    for _ in range(depth):
        p = torch.stack([probability(model, row, tau) for row in rows])
        rows = torch.cat([rows, tree._drawn(p, draw)[:, None]], 1)
    wanted = [len(set(map(tuple, own))) for own in rows.unflatten(0, (len(starts), samples)).tolist()]
    assert tree.distinct(model.hf, starts, tau, depth, samples, 2).tolist() == wanted
    assert 1 < np.mean(wanted) < samples, "some are alike and some are not"


def test_neighbours_differ_in_one_inner_token(model: Model) -> None:
    sizes = Sizes(sequences=4, tokens=12, prefixes=3, prefix=9, places=4, near=5)
    found = Inputs.of(model, TEXT * 3, sizes)
    assert found.ids.shape == (4, 12) and torch.equal(found.starts[:4], found.ids[:, :9])
    assert torch.equal(found.inside, (found.ids != 0) & (torch.arange(12) > 0) & (torch.arange(12) < 11))
    places = {}
    for kind, number in product((NEAR, RANDOM), range(3)):
        rows = found.neighbours[kind][number]
        assert rows.shape == (20, 9)
        changed = rows != found.starts[number]
        places[kind, number] = {int(place) for place in torch.nonzero(changed)[:, 1]}
        assert (changed.sum(1) == 1).all() if kind == NEAR else (changed.sum(1) <= 1).all()
        assert not changed[:, [0, -1]].any() and not (rows[changed] == 0).any()
        assert len({tuple(row) for row in rows.tolist()}) == 20 or kind == RANDOM
    assert all(len(places[NEAR, number]) == 4 and places[RANDOM, number] <= places[NEAR, number] for number in range(3))


def test_the_nearest_have_the_largest_cosine() -> None:
    embedding = torch.tensor([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [1.0, 0.3], [-1.0, 0.0]])
    allowed = torch.tensor([True, True, True, True, True])
    assert nearest(embedding, torch.tensor([0, 2]), allowed, 2).tolist() == [[1, 3], [3, 1]]
    allowed[1] = False
    assert nearest(embedding, torch.tensor([0]), allowed, 2).tolist() == [[3, 2]]
