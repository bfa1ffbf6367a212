"""Which layer is amplified, by how much, and that alpha 0 changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantcliff import models
from quantcliff.amplify import best_alpha, check_rule, confidence, peak_layer
from quantcliff.errors import InputError
from quantcliff.trace import Runner

TABLE = np.array([[0.1, 0.9, 0.2, 1.0], [0.8, 0.1, 0.3, 1.0], [0.6, 0.2, 0.5, 1.0]])


def test_each_prompts_own_layer_and_never_the_last() -> None:
    assert peak_layer(TABLE, "prompt", np.ones(3, dtype=bool)).tolist() == [1, 0, 0]


def test_one_layer_for_all_looks_at_the_validation_prompts_alone() -> None:
    assert peak_layer(TABLE, "common", np.ones(3, dtype=bool)).tolist() == [0, 0, 0]
    assert peak_layer(TABLE, "common", np.array([True, False, False])).tolist() == [1, 1, 1]


def test_a_layer_by_number() -> None:
    assert peak_layer(TABLE, 2, np.ones(3, dtype=bool)).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("rule", "n_layers", "words"),
    [("peak", 4, "unknown rule 'peak'"), (3, 4, "choose 0 to 2"), (-1, 4, "layer -1"), ("prompt", 1, "two layers")],
)
def test_rules_that_do_not_fit(rule: str | int, n_layers: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_rule(rule, n_layers)


def test_confidence_is_the_probability_of_the_first_choice(tiny_llama: Path) -> None:
    runner = Runner(models.load(tiny_llama))
    streams = torch.randn(70, 3, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(runner.unembed(streams), -1).max(-1).values
    np.testing.assert_allclose(confidence(runner, streams), expected.numpy(), rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(arrays(np.int64, (7, 4), elements=st.integers(1, 3)))
def test_best_alpha_is_best_and_smallest(ranks: np.ndarray) -> None:
    alphas = [3.0, 0.0, 1.0, 2.0]
    best = best_alpha(ranks, alphas)
    right = (ranks == 1).sum(0)
    assert right[best] == right.max()
    assert alphas[best] == min(alpha for alpha, count in zip(alphas, right, strict=True) if count == right.max())


def test_without_prompts_nothing_is_amplified() -> None:
    assert best_alpha(np.zeros((0, 3), dtype=np.int64), [1.0, 0.0, 2.0]) == 1
