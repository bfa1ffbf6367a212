"""What the three kinds of exercises accept, and what they say of everything else."""

import numpy as np
import pandas as pd
import pytest
import torch

from quantcliff.book.course import Choice, Function, Number, Wrong, checking
from quantcliff.errors import InputError

CHOICE = Choice(right="b", wrong={"a": "Not a.", "c": "Not c."})
NUMBER = Number(right=lambda x: x, wrong=[Wrong(lambda x: x + 7, "Seven too many."), Wrong(lambda x: x - 7, "Few.")])
FUNCTION = Function(
    right=lambda x: x - x.mean(), cases=lambda: [(np.array([1.0, 2.0, 6.0]),), (np.zeros(2),)],
    wrong=[Wrong(lambda x: x - x.min(), "From the mean, not from the smallest."), Wrong(lambda x: x, "Not moved.")],
)  # fmt: skip


@pytest.mark.parametrize("answer", ["b", "B", " b) "])
def test_a_choice_takes_its_letter_however_it_is_written(answer):
    assert CHOICE.refusal(answer) is None


@pytest.mark.parametrize(("answer", "says"), [("a", "Not a."), ("C", "Not c."), ("d", '"a", "b", "c"'), (2, "one of")])
def test_a_wrong_choice_is_told_why(answer, says):
    assert says in CHOICE.refusal(answer)


@pytest.mark.parametrize("answer", [0.3, np.float32(0.3), torch.tensor(0.3), np.array(0.3), 0.3005])
def test_a_number_is_taken_from_any_library_and_within_tolerance(answer):
    assert NUMBER.refusal(answer, 0.3) is None


@pytest.mark.parametrize(
    "answer", [[0.1, 0.4], (0.1, torch.tensor(0.4)), pd.Series([0.1, 0.4]), torch.tensor([0.1, 0.4])]
)
def test_arrays_are_taken_from_any_library(answer):
    assert NUMBER.refusal(answer, np.array([0.1, 0.4])) is None


def test_no_number_is_right_where_none_is_asked_for():
    right = np.array([np.nan, 0.4])
    assert NUMBER.refusal([np.nan, 0.4], right) is None
    assert NUMBER.refusal([np.nan, 0.5], right) == "1 of 2 numbers are wrong, and these are too large."


@pytest.mark.parametrize(
    ("answer", "right", "says"),
    [
        (7.3, 0.3, "Seven too many"),
        (-6.7, 0.3, "Few."),
        (-0.3, 0.3, "sign"),
        (30, 0.3, "percentage"),
        (0.7, 0.3, "one minus"),
        (0.6, 0.3, "twice"),
        (0.15, 0.3, "half"),
        (0.34, 0.3, "too large"),
        (0.22, 0.3, "too small"),
        (np.nan, 0.3, "nan"),
        ("0.3", [1.0, 2.0], "shape"),
        ("some", 0.3, "a str"),
        ([0.3, 0.4], 0.3, "shape"),
        ([2.0, 1.0], np.array([1.0, 2.0]), "order"),
        ([3.0, 6.0], np.array([1.0, 2.0]), "one factor, 3:"),
        ([1.0, 2.5], np.array([1.0, 2.0]), "1 of 2 numbers are wrong, and these are too large"),
        (np.arange(6.0).reshape(2, 3).T, np.arange(6.0).reshape(2, 3), "axes are swapped"),
        (np.array([[1.0, 2.0], [3.0, 5.0]]).T, np.array([[1.0, 2.0], [3.0, 5.0]]), "axes are swapped"),
    ],
)
def test_a_wrong_number_is_told_what_is_wrong_with_it(answer, right, says):
    told = NUMBER.refusal(answer, np.asarray(right))
    assert says in told
    assert told.endswith(".")


def test_a_function_that_is_right_is_taken():
    assert FUNCTION.refusal(lambda x: x - np.mean(x)) is None


def spoils(x):
    x -= x.mean()
    return x


def stops(x):
    raise ValueError("no such thing\nand more")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: x - x.min(), "From the mean"),
        (lambda x: x, "Not moved."),
        (lambda x: None, "returns nothing yet"),
        (lambda x: ..., "returns nothing yet"),
        (lambda x: x.mean() - x, "sign is wrong"),
        (lambda x: x[:1], "shape"),
        (lambda x: 3 * (x - x.mean()), "It is right in 1 of 2 cases; in another: All numbers are off by one factor"),
        (lambda x: x - x.mean() + 3 * (x[0] == 0), "right in 1 of 2 cases; in another: 2 of 2 numbers are wrong, and"),
        (lambda x: "word", "a str"),
        (spoils, "changes its own input"),
        (stops, "stops with ValueError: no such thing."),
        (3, "an int"),
    ],
)
def test_a_wrong_function_is_told_what_is_wrong_with_it(answer, says):
    told = FUNCTION.refusal(answer)
    assert says in told
    assert told.endswith(".")


def test_functions_that_spoil_what_they_are_given_spoil_no_other_call():
    def twice(x):
        x *= 2
        return x

    def threefold(x):
        x *= 3
        return x

    spoiling = Function(
        right=twice, cases=lambda: [(np.array([1.0, 2.0]),), (np.array([5.0, 1.0]),)],
        wrong=[Wrong(threefold, "Too much."), Wrong(lambda x: x, "Not moved.")],
    )  # fmt: skip
    assert spoiling.refusal(lambda x: 2 * x) is None
    assert spoiling.refusal(lambda x: x) == "Not moved."


def test_what_is_open_is_told_from_what_is_right(monkeypatch):
    monkeypatch.setattr(checking, "exercises", lambda chapter: {1: CHOICE, 2: NUMBER})
    monkeypatch.setattr(checking, "_right", {})
    assert checking.progress("some").data.startswith("0 of 2 exercises")
    with pytest.raises(AssertionError, match=r"refuse: some_1, some_2$"):
        checking.require("some")
    assert repr(checking.check("some_1", ...)).startswith("Not yet. There is no answer yet")
    assert "no answer yet" in checking.check("some_2", None, 0.3).says
    assert checking.progress("some").data == ("0 of 2 exercises of this page are right. Still open: some_1, some_2.")
    assert checking.check("some_1", "b")
    assert repr(checking.check("some_1", "b")) == "Right."
    with pytest.raises(AssertionError, match=r"refuse: some_2$"):
        checking.require("some")
    assert checking.check("some_2", 0.3, 0.3)
    checking.require("some")
    assert checking.progress("some").data == "2 of 2 exercises of this page are right."
    assert not checking.check("some_1", "a")
    with pytest.raises(AssertionError, match="some_1"):
        checking.require("some")


@pytest.mark.parametrize(
    ("name", "says"),
    [("macro_99", "macro_1"), ("macro", "like macro_2"), ("no_1", r"no exercises on 'no'.*macro"), ("", "like")],
)
def test_unknown_exercises_are_refused_in_one_sentence(name, says):
    with pytest.raises(InputError, match=says):
        checking.check(name, "b")
