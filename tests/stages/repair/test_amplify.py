"""Which layer is amplified, by how much, and that alpha 0 changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.stages.repair.amplify import amplified_ranks, best, candidates, check_rule, confidence
from quantcliff.tracing import Runner

TABLE = np.array([[0.1, 0.9, 0.2, 1.0], [0.8, 0.1, 0.3, 1.0], [0.6, 0.2, 0.5, 1.0]])


EVERYONE = np.ones(3, dtype=bool)


def layers(rule: str | int, validation: np.ndarray = EVERYONE) -> list[list[int]]:
    return [layer.tolist() for layer in candidates(TABLE, rule, validation)]


def test_each_prompts_own_layer_and_never_the_last() -> None:
    assert layers("peak") == [[1, 0, 0]]


def test_one_layer_for_all_looks_at_the_validation_prompts_alone() -> None:
    assert layers("common") == [[0, 0, 0]]
    assert layers("common", np.array([True, False, False])) == [[1, 1, 1]]


def test_one_layer_for_all_is_the_surest_by_the_mean() -> None:
    table = np.array([[0.4, 0.3, 1.0], [0.4, 0.3, 1.0], [0.1, 0.9, 1.0]])
    assert candidates(table, "common", EVERYONE)[0].tolist() == [1, 1, 1]


def test_a_layer_by_number_and_all_of_them() -> None:
    assert layers(2) == [[2, 2, 2]]
    assert layers("tuned") == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize(
    ("rule", "n_layers", "words"),
    [("loud", 4, "unknown rule 'loud'"), (3, 4, "choose 0 to 2"), (-1, 4, "layer -1"), ("peak", 1, "two layers")],
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
@given(arrays(np.int64, (3, 7, 4), elements=st.integers(1, 3)))
def test_the_best_choice_is_right_most_often_with_the_smallest_alpha(ranks: np.ndarray) -> None:
    alphas = [3.0, 0.0, 1.0, 2.0]
    chosen, alpha = best(ranks, alphas)
    right = (ranks == 1).sum(1)
    assert right[chosen, alpha] == right.max()
    equal = [(alphas[a], -c) for c in range(3) for a in range(4) if right[c, a] == right.max()]
    assert (alphas[alpha], -chosen) == min(equal)


def test_without_prompts_nothing_is_amplified() -> None:
    chosen, alpha = best(np.zeros((2, 0, 3), dtype=np.int64), [1.0, 0.0, 2.0])
    assert (chosen, alpha) == (1, 1)


def test_adding_logits(tiny_llama: Path) -> None:
    runner = Runner(models.load(tiny_llama))
    draw = torch.Generator().manual_seed(0)
    final, one, two = (torch.randn(70, 32, generator=draw) for _ in range(3))
    answers = [[number % 320, 7] for number in range(70)]
    found = amplified_ranks(runner, final, [one, two, final], [0.0, 0.5, 1e6], answers)
    assert found.shape == (3, 70, 3)
    logits = runner.unembed(final)
    for number, lens in enumerate(map(runner.unembed, (one, two))):
        for column, total in enumerate((logits, logits + 0.5 * lens, 1e6 * lens)):
            expected = [1 + int((row > row[right].max()).sum()) for row, right in zip(total, answers, strict=True)]
            assert np.abs(found[number, :, column] - expected).max() <= (1 if column == 2 else 0)
    assert (found[2] == found[2][:, :1]).all()  # a model's own output added to itself changes no rank
    assert (found[:, :, 0] == found[0, :, :1].T).all()  # alpha 0 is the model itself
