"""Tasks as fact sources: right answers, one of each prompt, and answers that stand in the prompt are kept."""

import re

import numpy as np
import pytest
from tiny import tiny_tokenizer

from quantcliff.atlas import load_facts
from quantcliff.errors import InputError
from quantcliff.probes import facts
from quantcliff.probes.tasks import EXAMPLES, FIRST_HOPS, LENGTH, PAIRS, SECOND_HOPS, TASKS, rows


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_a_source_of_facts(name: str) -> None:
    found = facts.load(f"tasks:{name}", n_facts=30)
    assert len(found) == 30 and found.rows["prompt"].is_unique
    assert all(subject in prompt for subject, prompt in zip(found.rows["subject"], found.rows["prompt"], strict=True))
    probes = facts.probe(found, tiny_tokenizer())
    assert (probes.subject >= 0).all() and (probes.subject[:, 1] < probes.lengths).all()
    again = facts.load(f"tasks:{name}", n_facts=20)
    assert again.rows["prompt"].tolist() == found.rows["prompt"].tolist()[:20]
    other = facts.load(f"tasks:{name}", n_facts=20, seed=1)
    assert other.rows["prompt"].tolist() != again.rows["prompt"].tolist()


def test_induction_asks_for_what_followed_the_last_word_before() -> None:
    for row in rows("tasks:induction", 50, 0):
        words = row.prompt.split(" ")
        string, rest = words[:LENGTH], words[LENGTH:]
        assert len(set(string)) == LENGTH and string[: len(rest)] == rest
        assert row.objects == (string[len(rest)],) and row.subject == words[-1]
    assert TASKS["induction"].chance == 1 / LENGTH


@pytest.mark.parametrize("name", PAIRS)
def test_a_rule_is_shown_on_other_words_than_it_is_asked_of(name: str) -> None:
    pairs = dict(pair.split() for pair in PAIRS[name].split(", "))
    assert TASKS[name].chance == 1 / len(pairs) and len(pairs) >= 36
    for row in rows(f"tasks:{name}", 50, 0):
        *shown, asked = row.prompt.split("\n")
        assert len(shown) == EXAMPLES and all(pairs[line.split(": ")[0]] == line.split(": ")[1] for line in shown)
        assert asked == f"{row.subject}:" and row.objects == (pairs[row.subject],)
        assert not any(line.startswith(f"{row.subject}:") for line in shown)


def test_the_larger_number_is_the_answer_as_often_first_as_second() -> None:
    found = rows("tasks:comparison", 200, 0)
    first = []
    for row in found:
        one, two = map(int, re.findall(r"\d+", row.subject))
        assert row.objects == (str(max(one, two)),) and one // 10 != two // 10
        first.append(one > two)
        for line in row.prompt.split("\n")[:-1]:
            left, right, answer = map(int, re.findall(r"\d+", line))
            assert answer == max(left, right)
    assert 0.4 < np.mean(first) < 0.6


def test_two_hops_lead_over_a_fact_to_another() -> None:
    known = {(fact.relation, fact.subject): fact.object for fact in load_facts()}
    found = rows("tasks:two-hop", 50, 0)
    for row in found:
        between = {known[hop, row.subject] for hop in FIRST_HOPS if (hop, row.subject) in known}
        assert row.relation in SECOND_HOPS
        assert row.objects[0] in {known.get((row.relation, place)) for place in between}
        assert not any(place in row.prompt.replace(row.subject, "") for place in between)


def test_answers_that_stand_in_the_prompt_are_asked_all_the_same() -> None:
    found = facts.load("tasks:induction", n_facts=10)
    assert len(found) == 10 and found.dropped.empty
    assert facts.paraphrases(found) is found


def test_an_unknown_task_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no task 'sums'; choose one of tasks:induction"):
        facts.load("tasks:sums")
