"""Patching: the arithmetic on made numbers, the interventions against TransformerLens' own hooks on random models."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantcliff.errors import InputError
from quantcliff.patching import aligned, inside, other_facts, recovery, spans

SUBJECT = np.array([[1, 3], [2, 2], [-1, -1]])
LENGTHS = np.array([6, 4, 5])


def test_spans_name_the_right_tokens():
    assert spans("last_subject", SUBJECT, LENGTHS).tolist() == [[3, 3], [2, 2], [-1, -1]]
    assert spans("subject", SUBJECT, LENGTHS).tolist() == [[1, 3], [2, 2], [-1, -1]]
    assert spans("last", SUBJECT, LENGTHS).tolist() == [[5, 5], [3, 3], [4, 4]]
    assert spans("all", SUBJECT, LENGTHS).tolist() == [[0, 5], [0, 3], [0, 4]]
    with pytest.raises(InputError, match="verb"):
        spans("verb", SUBJECT, LENGTHS)


def test_inside_marks_the_span_and_nothing_of_the_padding():
    marked = inside(spans("subject", SUBJECT, LENGTHS), 6)
    assert marked.astype(int).tolist() == [[0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6]
    assert inside(spans("all", SUBJECT, LENGTHS), 6).sum(axis=1).tolist() == LENGTHS.tolist()


@given(st.data())
def test_a_span_laid_on_another_keeps_its_end_and_stays_inside(data):
    def pair():
        first = data.draw(st.integers(0, 9))
        return np.array([[first, first + data.draw(st.integers(0, 9))]])

    to, source = pair(), pair()
    taken = aligned(to, source)[0]
    assert len(taken) == to[0, 1] - to[0, 0] + 1
    assert taken[-1] == source[0, 1]
    assert ((taken >= source[0, 0]) & (taken <= source[0, 1])).all()
    assert set(np.diff(taken).tolist()) <= {0, 1}
    assert aligned(to, to)[0].tolist() == list(range(to[0, 0], to[0, 1] + 1))


def test_no_span_needs_no_donor_token():
    assert [len(a) for a in aligned(np.array([[-1, -1], [0, 1]]), np.array([[-1, -1], [3, 4]]))] == [0, 2]


def test_the_control_is_another_fact_of_the_same_relation_and_of_like_length():
    relation = ["capital", "capital", "capital", "capital", "born", "born"]
    answers = [[7], [7, 8], [9], [9], [7], [5]]
    subject = np.tile([1, 2], (6, 1))
    lengths = np.array([5, 9, 9, 5, 5, 6])
    chosen = other_facts(relation, answers, subject, lengths)
    assert chosen.tolist() == [3, 2, 1, 0, 5, 4]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 5), min_size=1)), min_size=2, max_size=20))
def test_the_control_never_shares_an_answer_and_leaves_the_relation_only_when_it_must(facts):
    relation, answers = [r for r, _ in facts], [sorted(a) for _, a in facts]
    subject, lengths = np.tile([1, 1], (len(facts), 1)), np.full(len(facts), 4)
    fit = [[j for j, b in enumerate(answers) if not set(a) & set(b)] for a in answers]
    if not all(fit):
        with pytest.raises(InputError, match="different answers"):
            other_facts(relation, answers, subject, lengths)
        return
    for i, j in enumerate(other_facts(relation, answers, subject, lengths, seed=1)):
        assert j in fit[i]
        assert relation[j] == relation[i] or all(relation[k] != relation[i] for k in fit[i])


def test_the_control_gives_a_prompt_with_a_subject_a_donor_with_one():
    subject = np.array([[1, 2], [-1, -1], [1, 1]])
    chosen = other_facts(["a", "a", "b"], [[1], [2], [3]], subject, np.array([4, 4, 9]))
    assert chosen[0] == 2


probabilities = hnp.arrays(float, 12, elements=st.floats(0, 1))


@given(probabilities, st.floats(0.05, 0.5), st.floats(0, 1))
def test_recovery_is_0_at_the_recipient_1_at_the_donor_and_linear_between(recipient, gap, share):
    donor = recipient + gap
    patched = np.stack([recipient, donor, recipient + share * (donor - recipient), recipient - 0.5 * gap])
    result = recovery(patched, recipient, donor, resamples=50)
    for row, expected in zip(result, [0, 1, share, -0.5], strict=True):
        np.testing.assert_allclose(row, expected, atol=1e-6)


@given(probabilities, probabilities, probabilities)
def test_recovery_is_the_ratio_of_means_inside_its_interval_and_the_same_for_swapped_models(patched, recipient, donor):
    estimate, low, high = recovery(patched[None], recipient, donor, resamples=200)[0]
    if np.isnan(estimate):
        return
    assert estimate == pytest.approx((patched.mean() - recipient.mean()) / (donor.mean() - recipient.mean()))
    assert low <= high
    back = recovery(patched[None], donor, recipient, resamples=200)[0]
    np.testing.assert_allclose(back, [1 - estimate, 1 - high, 1 - low], atol=1e-6)


def test_recovery_is_undefined_where_there_is_nothing_to_recover():
    same = np.linspace(0, 1, 30)
    assert np.isnan(recovery(np.stack([same, same + 1]), same, same)).all()
    noise = np.where(np.arange(30) % 2, 0.01, -0.01)
    assert np.isnan(recovery((same + 1)[None], same, same + noise)).all()


def test_recovery_weighs_prompts_by_what_they_lost():
    recipient, donor = np.array([0.0] * 20 + [0.50] * 20), np.array([1.0] * 20 + [0.501] * 20)
    patched = np.array([0.5] * 20 + [0.6] * 20)
    assert recovery(patched[None], recipient, donor)[0, 0] == pytest.approx(0.6, abs=0.01)  # the mean of ratios is 50.25


def test_the_interval_narrows_with_more_prompts():
    def width(n):
        draw = np.random.default_rng(0)
        recipient, donor = draw.uniform(0, 0.3, n), draw.uniform(0.7, 1, n)
        _, low, high = recovery(draw.uniform(0, 1, n)[None], recipient, donor)[0]
        return high - low

    assert width(1600) < 0.4 * width(100)


