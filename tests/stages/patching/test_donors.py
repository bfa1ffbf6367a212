"""Donors of every kind: who may be one, what is counted, and what the rules make of it."""

import numpy as np
import pandas as pd
import pytest

from quantcliff.probes import Probes
from quantcliff.stages.patching.donors import KINDS, donors_of, outcomes, table_of


def asked(relation: str, answers: list[int], lengths: list[int]) -> Probes:
    table = pd.DataFrame({"relation": list(relation)})
    ids = [[1] * length for length in lengths]
    return Probes(ids, [[a] for a in answers], np.full((len(answers), 2), -1), table, pd.DataFrame())


def test_a_donor_is_of_the_same_relation_has_another_answer_and_the_most_similar_length():
    probes = asked("aaaab", [1, 1, 2, 3, 4], [5, 4, 9, 6, 5])
    every = np.ones(5, dtype=bool)
    assert donors_of(probes, np.arange(5), every).tolist() == [3, 3, 3, 0, -1]
    assert donors_of(probes, np.array([0]), every).tolist() == [3, -1, -1, -1, -1]


def test_a_donor_must_be_fit_and_alike():
    probes = asked("aaaa", [1, 2, 3, 4], [5, 6, 8, 9])
    fit = np.array([True, False, False, True])
    assert donors_of(probes, np.arange(4), fit).tolist() == [3, 0, 3, 0]
    every, band = np.ones(4, dtype=bool), np.array([1, 2, 2, 1])
    assert donors_of(probes, np.arange(4), every, alike=band).tolist() == [3, 2, 1, 0]


def gains(**lower: float) -> np.ndarray:
    """Gains of 40 prompts in 6 layers: in the lower two as given, in the others far off."""
    noise = np.random.default_rng(0).normal(0, 0.01, (40, 1))
    made = np.full((len(KINDS), 40, 6), -9.0)
    for number, kind in enumerate(KINDS):
        made[number, :, :2] = lower.get(kind, 0.0) + noise
    return made


FAILURE = np.arange(40) < 20


def test_gain_is_over_the_lower_third_and_excess_is_over_the_right_fact():
    table = table_of(gains(own=0.01, other=0.05, failure=0.04, popular=0.02, quantized=0.03), FAILURE)
    whole = table[table["layer"].isna()].set_index(["group", "donor", "measure"])["estimate"]
    mean = table.query("group == 'failure' and donor == 'own' and measure == 'gain' and layer == 1")["estimate"].iloc[0]
    assert whole["failure", "own", "gain"] == pytest.approx(mean)
    assert whole["failure", "other", "excess"] == pytest.approx(0.04)
    assert whole["failure", "failure", "over_half"] == pytest.approx(0.03 - 0.02)
    assert whole["failure", "popular", "over_half"] == pytest.approx(0.01 - 0.02)
    assert whole["robust", "own", "excess"] == 0
    assert table.loc[table["layer"].notna(), "layer"].unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert set(table["n"]) == {20}


def test_a_kind_that_no_prompt_has_is_left_out():
    made = gains(other=0.05)
    made[KINDS.index("popular")] = np.nan
    table = table_of(made, FAILURE)
    assert "popular" not in set(table["donor"])
    assert outcomes(table).set_index("question")["answer"]["donors as popular bring less than half"] == "open"


@pytest.mark.parametrize(
    ("lower", "answers"),
    [
        ({"other": 0.05, "failure": 0.05, "popular": 0.01, "quantized": 0.05}, ["yes", "no", "yes", "yes", "no"]),
        ({"other": 0.05, "failure": 0.01, "popular": 0.05, "quantized": 0.01}, ["yes", "yes", "no", "no", "no"]),
        ({"own": 0.05, "other": -0.05, "failure": 0.01, "quantized": 0.05}, ["no", "open", "open", "open", "yes"]),
    ],
)
def test_the_rules_answer_the_questions(lower, answers):
    assert outcomes(table_of(gains(**lower), FAILURE))["answer"].tolist() == answers
