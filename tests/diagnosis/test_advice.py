"""Advice follows the ladder and the mode, and every figure in it is one of theirs."""

import pytest
from made_up import LADDER, QUESTIONS, broken, ladder, verdict

from quantcliff.diagnosis.advice import FOLLOWS, advice, helps
from quantcliff.filecheck import Findings
from quantcliff.quantizers.healing import Recipe, passes
from quantcliff.stages.healing import gains


def said(**fields: object) -> str:
    return "\n".join(advice(verdict(**fields)))


def test_a_step_helps_if_its_whole_interval_lies_above_the_model_as_it_is():
    assert helps(LADDER).tolist() == [False, False, True, True, True]
    touching = ladder(("as it is", 2, 0.1, 0.05, 0.2), ("a", 3, 0.5, 0.2, 0.8), ("b", 3, 0.5, 0.201, 0.8))
    assert helps(touching).tolist() == [False, False, True]


def test_the_cheapest_and_the_sufficient_step_are_named_with_their_cost_and_what_they_keep():
    told = said()
    assert "The cheapest step that helps: all layers in 3 bits. It takes 3.10 bits per weight instead of 2.10" in told
    assert "keeps 72% (58% to 83%) of 50 answers; as it is, 2% (0% to 10%)" in told
    assert "as far as can be told: all layers in 8 bits, 8.20 bits per weight, keeps 100% (93% to 100%)." in told
    assert "No gain that stands out from chance: layer 0 in 8 bits." in told
    assert "layers 0 to 3" not in told


def test_of_equally_cheap_steps_the_better_one_is_named():
    steps = ladder(("as it is", 2, 0.0, 0.0, 0.1), ("worse", 3, 0.4, 0.3, 0.5), ("better", 3, 0.6, 0.5, 0.7))
    told = said(ladder=steps)
    assert "The cheapest step that helps: better." in told
    assert "What keeps most: the same step." in told


def test_where_no_step_is_as_good_as_intact_the_best_is_named():
    steps = ladder(("as it is", 2, 0.0, 0.0, 0.1), ("small", 3, 0.4, 0.3, 0.5), ("large", 4, 0.6, 0.5, 0.7))
    assert "What keeps most: large, 4.00 bits per weight, keeps 60% (50% to 70%)." in said(ladder=steps)


@pytest.mark.parametrize(("high", "enough"), [(0.99, True), (0.989, False)])
def test_a_step_is_enough_if_its_interval_reaches_what_counts_as_intact(high, enough):
    told = said(
        ladder=ladder(("as it is", 2, 0.0, 0.0, 0.1), ("small", 3, 0.4, 0.3, 0.5), ("large", 4, 0.9, 0.8, high))
    )
    assert ("Enough to be as good as full precision" in told, "What keeps most" in told) == (enough, not enough)


def test_where_nothing_helps_it_says_so():
    steps = ladder(("as it is", 2, 0.0, 0.0, 0.1), ("small", 3, 0.05, 0.0, 0.2), ("large", 4, 0.1, 0.1, 0.3))
    told = said(ladder=steps)
    assert "No step that was measured keeps more than the model as it is, as far as can be told: small; large." in told
    assert "cheapest" not in told


@pytest.mark.parametrize("mode", FOLLOWS)
def test_every_mode_has_its_own_sentence_in_front(mode):
    told = advice(verdict(mode=mode))
    assert told[0] == FOLLOWS[mode]
    assert len(set(FOLLOWS.values())) == len(FOLLOWS)


@pytest.mark.parametrize(("mode", "named"), [("computation collapse", 1), ("mixed", 1), ("signal degradation", 0)])
def test_healing_is_named_where_repair_has_nothing_to_work_on(mode, named):
    told = advice(verdict(mode=mode))
    assert sum("quantcliff heal BASE QUANTIZED OUT" in sentence for sentence in told) == named
    assert ("heal BASE" in told[1]) == bool(named), "before the ladder"


def test_what_healing_brings_and_costs_is_what_the_shipped_tables_say():
    known = gains()
    known = known[known["mode"] != "signal degradation"]
    assert set(known["mode"]) <= {"computation collapse", "mixed"} and len(known) >= 2
    (told,) = (sentence for sentence in advice(verdict(mode="mixed")) if "heal BASE" in sentence)
    assert f"in the book {len(known)} such models" in told
    assert f"{known['after'].min():.0%} to {known['after'].max():.0%} after" in told
    assert f"intervals from {known['low'].min():.0%} to {known['high'].max():.0%}" in told
    assert passes() == 14 and passes(Recipe(epochs=1)) == 5 and f"{14 * known['tokens'].max():,} tokens" in told


def test_layers_are_named_where_it_shows():
    told = said()
    assert "read degraded from layer 0 on, collapsed from layer 3 on." in told
    assert "Quantized alone, layer 1, the worst, leaves 60% of the answers." in told
    assert "Where to look" not in said(first={"degraded": None, "collapsed": None})


def test_answers_that_are_not_sure_are_named_and_only_those():
    assert advice(verdict())[-1].endswith("the interval allows the other answer too: Is each layer good?")
    assert "Not sure" not in said(questions=QUESTIONS.assign(sure=True))


def test_an_intact_model_needs_nothing():
    told = advice(verdict(mode="intact", ladder=LADDER[:0], questions=QUESTIONS.assign(sure=True)))
    assert told == ["Nothing needs repair."]
    for file in (Findings(faults=("a",)), Findings(origin="m was not made from n")):
        assert "Nothing needs repair." not in advice(verdict(mode="intact", ladder=LADDER[:0], file=file))


def test_a_faulty_file_comes_first():
    assert advice(broken())[0].startswith("Write the file again before anything else: it has 1 fault, first layer 1, ")
    many = Findings(faults=("a", "b"), origin="m was not made from n", left_out=("the KV cache",))
    told = advice(verdict(file=many))
    assert "2 faults, first a." in told[0]
    assert told[1] == "What follows is about the model as it is stored now."
    assert told[2].startswith("Give the model that was quantized as base")
    assert told[3] == FOLLOWS["mixed"]
    assert told[-1] == "Not measured, so not covered by this advice: the KV cache."
