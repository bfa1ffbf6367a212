"""Claims stop a strict page and are reported on any other; computed text arrives as Markdown."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantcliff.book import ClaimError, Claims
from quantcliff.book import text as book_text


def test_failed_claim_stops_a_strict_page_with_name_and_sentence():
    claims = Claims(strict=True)
    assert claims.check("fine", "Eight bits keep the answers.", True)
    with pytest.raises(ClaimError, match=r"'cliff'.*Two bits lose the answers"):
        claims.check("cliff", "Two bits lose the answers.", np.bool(False))


def test_failed_claim_on_another_model_is_reported():
    claims = Claims(strict=False)
    assert claims.check("one", "This holds.", np.float64(0.9) > 0.5) is True
    assert claims.check("two", "This does | not.", False) is False
    lines = claims.report().data.splitlines()
    assert lines[0] == "Claims of this page that hold here: 1 of 2."
    assert lines[-2:] == ["| This holds. | holds |", "| This does \\| not. | **does not hold** |"]


def test_a_claim_about_nothing_neither_holds_nor_fails():
    claims = Claims(strict=True)
    claims.check("one", "This holds.", True)
    claims.check("two", "Lost answers are near.", np.nan >= 0.8, applies=False)
    lines = claims.report().data.splitlines()
    assert lines[0] == (
        "Claims of this page that hold here: 1 of 1. 1 more is about something that there is none of here."
    )
    assert lines[-1] == "| Lost answers are near. | nothing to say it of |"


def test_a_number_that_is_none_is_a_dash(monkeypatch):
    shown = []
    monkeypatch.setattr(book_text, "display", lambda value: shown.append(value.data))
    book_text.say(f"{np.nan:.0%} of the nanotubes, {np.nan:+.1f} nats, {0.5:.0%} of Hanan's, `nan`.")
    assert shown == ["– of the nanotubes, – nats, 50% of Hanan's, `nan`."]  # noqa: RUF001


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"{-0.0004:.1%} of", "0.0% of"), (f"({-0.3:+.0f} to {0.2:+.0f})", "(0 to 0)"), (f"{-1e-9:.3f}", "0.000"),
        (f"a move of {-0.001:.2f}.", "a move of 0.00."), ("|-0|", "|0|"),
        ("-0.05, -0.5% +0.10 -10 +01", "-0.05, -0.5% +0.10 -10 +01"),
        ("3-0, x-0, 2607.00-0, 1e-0, (a)-0, `-0.0`", "3-0, x-0, 2607.00-0, 1e-0, (a)-0, `-0.0`"), ("-0.00.", "0.00."),
    ],
)  # fmt: skip
def test_no_sign_stands_before_a_zero(monkeypatch, said, shown):
    seen = []
    monkeypatch.setattr(book_text, "display", lambda value: seen.append(value.data))
    book_text.say(said)
    assert seen == [shown]


def test_tables_and_claims_show_numbers_as_text_does(monkeypatch):
    seen = []
    monkeypatch.setattr(book_text, "display", lambda value: seen.append(value.data))
    book_text.say_table(pd.DataFrame({"gain": [-0.0001, np.nan], "words": ["nan%", "-0 to -1"]}), {"gain": "{:+.1%}"})
    assert seen == ["| gain | words |\n|---|---|\n| 0.0% | – |\n| - | 0 to -1 |"]  # noqa: RUF001
    claims = Claims(strict=False)
    claims.check("one", f"It moves by {-0.0001:.1%}.", True)
    assert "It moves by 0.0%." in claims.report().data


def test_a_number_with_its_interval():
    assert book_text.ranged(0.447, 0.372, 0.53) == "45% (37 to 53)"
    assert book_text.ranged(-0.0004, -0.2, np.nan, ".2f") == "0.00 (-0.20 to –)"  # noqa: RUF001


def test_one_name_is_one_claim():
    claims = Claims(strict=False)
    claims.check("one", "This holds.", True)
    with pytest.raises(ValueError, match="'one' is checked twice"):
        claims.check("one", "That holds too.", True)


def test_page_without_claims_says_so():
    assert "no checked claim" in Claims(strict=True).report().data


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_report_has_a_row_per_claim_and_counts_them(held):
    claims = Claims(strict=False)
    for number, value in enumerate(held):
        claims.check(str(number), f"Claim {number}\nover two lines.", value)
    text = claims.report().data
    assert f"{sum(held)} of {len(held)}" in text
    assert text.count("over two lines. | holds |") == sum(held)
    assert text.count("**does not hold**") == len(held) - sum(held)


def test_say_dedents_and_say_table_formats(monkeypatch):
    shown = []
    monkeypatch.setattr(book_text, "display", lambda value: shown.append(value.data))
    book_text.say("""
        Two lines,
        one paragraph.
    """)
    book_text.say(Claims(strict=False).report())
    table = pd.DataFrame({"method": ["a|b", None], "accuracy": [0.256, np.nan], "n": pd.array([3, 4], "Int64")})
    book_text.say_table(table, {"accuracy": "{:.1%}"})
    assert shown == [
        "Two lines,\none paragraph.",
        "This page makes no checked claim.",
        "| method | accuracy | n |\n|---|---|---|\n| a\\|b | 25.6% | 3 |\n| - | - | 4 |",
    ]


def test_a_folded_table_stands_in_a_dropdown_of_its_title(monkeypatch):
    seen = []
    monkeypatch.setattr(book_text, "display", lambda value: seen.append(value.data.splitlines()))
    table = pd.DataFrame({"bits": [4], "kept": [0.5]})
    book_text.say_table(table, {"kept": "{:.0%}"})
    book_text.say_table(table, {"kept": "{:.0%}"}, folded="Answers kept")
    book_text.say_table(table, {"kept": "{:.0%}"}, folded="Answers kept", before="  What it says:")
    assert seen[0] == book_text.as_table(table, {"kept": "{:.0%}"}).splitlines()
    assert seen[1] == ["````{dropdown} Answers kept", *seen[0], "````"]
    assert seen[2] == ["````{dropdown} Answers kept", "What it says:", "", *seen[0], "````"]
