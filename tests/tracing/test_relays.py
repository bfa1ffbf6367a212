"""A relay of two models is the model whose layers are taken from both, layer by layer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_probes

from quantcliff import models
from quantcliff.quantizers import Scheme, quantize
from quantcliff.tracing import Runner, chain, depths, one_at_a_time, ranks, relay, score

PROBES = random_probes()


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_gemma", "tiny_neox"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[models.Model, models.Model, Runner, Runner]:
    base = request.getfixturevalue(request.param)
    other = quantize(base, Scheme("rtn", 2, 16), (), tmp_path_factory.mktemp("cache"))
    return models.load(base), models.load(other), Runner(models.load(base)), Runner(models.load(other))


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_relay_is_a_splice(pair: tuple[models.Model, models.Model, Runner, Runner], cut: int) -> None:
    base, other, full, low = pair
    layers = [f".{layer}." for layer in range(cut)]
    whole = models.splice(base, other, lambda name: any(layer in name for layer in layers)).hf
    streams = relay(low, full, [3, cut, 1], PROBES)[cut]
    for ids, row in zip(PROBES.input_ids, streams, strict=True):
        logits = whole(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(full.unembed(row[-1]), logits, atol=1e-5, rtol=1e-5)


def test_the_streams_of_all_layers_are_those_of_the_model_that_ran_them(
    pair: tuple[models.Model, models.Model, Runner, Runner],
) -> None:
    _, other, full, low = pair
    streams = relay(low, full, [2], PROBES)[2]
    for ids, row in zip(PROBES.input_ids, streams, strict=True):
        hidden = other.hf(torch.tensor([ids]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(row[:2], torch.stack([hidden[1][0, -1], hidden[2][0, -1]]), atol=1e-5, rtol=1e-5)


def test_ranks_are_those_of_the_model(pair: tuple[models.Model, models.Model, Runner, Runner]) -> None:
    _, _, full, low = pair
    streams = relay(low, low, [0], PROBES)[0]
    expected = score(low, PROBES)["rank"].to_numpy()
    assert np.array_equal(ranks(full, streams[:, -1], PROBES.answers), expected)


@settings(deadline=None)
@given(st.integers(1, 200))
def test_depths(n_layers: int) -> None:
    found = depths(n_layers)
    assert found[0] == 0
    assert found[-1] == n_layers
    assert found == sorted(set(found))
    assert set(range(min(4, n_layers) + 1)) <= set(found)
    assert len(found) <= 18


@pytest.mark.parametrize("clean", [(), (0,), (1,), (0, 2), (0, 1, 2)])
def test_a_chain_is_a_splice(pair: tuple[models.Model, models.Model, Runner, Runner], clean: tuple[int, ...]) -> None:
    base, other, full, low = pair
    layers = [f".{layer}." for layer in clean]
    whole = models.splice(other, base, lambda name: any(layer in name for layer in layers)).hf
    streams = chain([full if layer in clean else low for layer in range(3)], PROBES)
    for ids, row in zip(PROBES.input_ids, streams, strict=True):
        logits = whole(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(full.unembed(row), logits, atol=1e-5, rtol=1e-5)


def test_one_layer_at_a_time_is_a_chain(pair: tuple[models.Model, models.Model, Runner, Runner]) -> None:
    _, _, full, low = pair
    found = one_at_a_time(full, low, PROBES)
    for layer in range(3):
        expected = chain([low if here == layer else full for here in range(3)], PROBES)
        torch.testing.assert_close(found[layer], expected, atol=1e-5, rtol=1e-5)
