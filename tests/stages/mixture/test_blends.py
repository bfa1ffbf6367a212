"""Traces are linear in the mixture, so that the published criterion can return nothing but the pure task."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantcliff.stages.mixture import blends

TRACES = st.lists(st.floats(0.01, 100), min_size=5, max_size=5).map(np.array)


@given(TRACES, TRACES)
def test_the_cosine_with_the_task_falls_with_every_bit_of_other_text(task: np.ndarray, general: np.ndarray) -> None:
    line = [blends.cosine(alpha * general + (1 - alpha) * task, task) for alpha in np.linspace(0, 1, 9)]
    assert line[0] == pytest.approx(1) and (np.diff(line) <= 1e-12).all()


@given(TRACES, TRACES)
def test_a_target_of_both_asks_for_both(task: np.ndarray, general: np.ndarray) -> None:
    kept = (task + general) / 2
    assert blends.cosine(kept, 0.5 * general + 0.5 * task) == pytest.approx(1)


def test_effective_rank_counts_directions() -> None:
    assert blends.effective_rank(torch.eye(8)) == pytest.approx(1)
    assert blends.effective_rank(torch.diag(torch.tensor([1.0, 1, 0, 0]))) == pytest.approx(0.5)
    assert blends.effective_rank(torch.ones(4, 4)) == pytest.approx(0.25, abs=1e-6)
    share = np.array([0.7, 0.3])
    wanted = np.exp(-(share * np.log(share)).sum()) / 2
    assert blends.effective_rank(5 * torch.diag(torch.tensor([0.7, 0.3]))) == pytest.approx(wanted)


CRITERIA = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "to_kept": [0.99, 1.0, 0.98], "diversity": [0.2, 0.3, 0.6]})


def measured(*, test: tuple[float, ...], choose: tuple[float, ...]) -> pd.DataFrame:
    rows = [{"alpha": alpha, "draw": draw, "facts": test[place] + 0.01 * draw, "text": test[place],
             "chosen_facts": choose[place], "chosen_text": choose[place] / 10}
            for place, alpha in enumerate(CRITERIA["alpha"]) for draw in (-1, 0, 1)]  # fmt: skip
    return pd.DataFrame(rows)


def test_diversity_is_weighed_against_alignment() -> None:
    assert blends.scored(CRITERIA, 0.0) == pytest.approx([0.99, 1.0, 0.98])
    assert blends.scored(CRITERIA, 2.0) == pytest.approx([0.99 - 1.6, 1 - 1.4, 0.98 - 0.8])


def test_mu_is_chosen_where_it_chooses_best_and_never_on_the_testing_half() -> None:
    low, high = measured(test=(9, 9, 1), choose=(2, 1, 3)), measured(test=(1, 9, 9), choose=(3, 2, 1))
    assert blends.chosen_mu(CRITERIA, low, (0.0, 1.0)) == 0.0
    assert blends.chosen_mu(CRITERIA, high, (0.0, 1.0)) == 1.0
    assert blends.chosen_mu(CRITERIA, low, (1.0, 0.0)) == 0.0, "whatever their order"


def test_both_losses_count_alike() -> None:
    table = measured(test=(1, 2, 3), choose=(1, 2, 3))
    assert blends.loss(table, "chosen_").tolist() == pytest.approx([1, 2, 3])
    assert blends.loss(table.assign(facts=100 * table["facts"])).tolist() == pytest.approx([1, 2, 3])


def test_the_order_of_mixtures_is_held_to_the_testing_half() -> None:
    assert blends.order(CRITERIA, measured(test=(2, 1, 3), choose=(1, 1, 1)), 0.0) == pytest.approx(1)
    assert blends.order(CRITERIA, measured(test=(2, 3, 1), choose=(1, 1, 1)), 0.0) == pytest.approx(-1)


def test_mixtures_matter_if_they_differ_by_more_than_draws() -> None:
    assert blends.matters(measured(test=(1, 1.2, 1.4), choose=(1, 1, 1)), "facts") < 1e-3
    assert blends.matters(measured(test=(1, 1, 1), choose=(1, 1, 1)), "facts") == pytest.approx(1)
