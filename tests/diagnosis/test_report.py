"""The verdict in words and as JSON: every number is there, what is not a number is null."""

import json
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
from made_up import QUESTIONS, broken, verdict

from quantcliff.diagnosis import report
from quantcliff.filecheck import Findings
from quantcliff.stages.verdict import EXIT_CODES


def test_json_is_valid_and_holds_the_whole_verdict():
    found = json.loads(json.dumps(report.as_json(verdict()), allow_nan=False))
    assert [row["question"] for row in found["questions"]] == QUESTIONS["question"].tolist()
    last = found["questions"][-1]
    assert last["value"] is None and last["control"] is None and last["held_to"] == 0.5
    assert [row["helps"] for row in found["next_steps"]] == [False, False, True, True, True]
    assert found["next_steps"][2] == {"step": "layers 0 to 3 in 8 bits", "bits": 5.2, "kept": 0.34, "low": 0.22,
                                      "high": 0.48, "n": 50, "note": "", "helps": True}  # fmt: skip
    assert found["signals"][0]["threshold"] is None and found["signals"][0]["first_collapsed"] is None
    assert found["former_rule"] == {"mode": "mixed", "collapsed": 7, "applicable": 11, "outvoted": ["Jaccard"]}
    assert found["accuracy_kept"] == {"estimate": 0.036, "low": 0.018, "high": 0.073, "n": 193}
    assert found["advice"] == report.advice(verdict())


def test_json_of_a_file_that_alone_was_looked_at():
    found = json.loads(json.dumps(report.as_json(broken()), allow_nan=False))
    assert found["accuracy_kept"] == {"estimate": None, "low": None, "high": None, "n": 0}
    assert found["questions"] == found["next_steps"] == found["signals"] == []
    assert len(found["faults"]) == len(found["odd"]) == 1


@pytest.mark.parametrize("where", ["the function", "the book"])
def test_every_field_of_json_is_documented(where):
    book = (Path(__file__).parents[2] / "book" / "appendix_rerun.md").read_text()
    described = report.as_json.__doc__ if where == "the function" else book
    names = [*report.as_json(verdict()), "about", "made", "examples"]
    assert [name for name in names if name not in described] == []


def test_every_field_of_a_verdict_is_in_json():
    names = json.dumps(report.as_json(verdict()))
    renamed = {"kept": "accuracy_kept", "kept_low": "low", "kept_high": "high", "n_known": "n", "ladder": "next_steps",
               "first": "first_layer", "former": "former_rule", "file": "faults"}  # fmt: skip
    assert [field.name for field in fields(verdict()) if f'"{renamed.get(field.name, field.name)}"' not in names] == []


def test_the_terminal_shows_questions_advice_steps_signals_and_the_former_rule():
    said = report.text(verdict())
    assert said.startswith("m-2bit: mixed. ")
    assert "Looked at in the files and found clean: 56 of 56 modules." in said
    assert "It keeps 3.6% of the 193 answers that full precision gets right (95% interval 1.8% to 7.3%)." in said
    assert "Does it form? No (0.66, held to 0.75; of the lost answers)." in said
    assert "Is each layer good? Yes, not sure (0.60, held to 0.50; layer 1, the worst)." in said
    assert "Is it their own? Not asked, none fails." in said
    assert "What to do:\n- " in said
    assert "layers 0 to 3 in 8 bits  5.20  34%   22% to 48%    yes" in said
    assert said.endswith(
        "The former rule says mixed: 7 of the 11 signals that apply read collapsed; outvoted: Jaccard."
    )
    assert "nan" not in said.lower()


def test_the_terminal_of_a_broken_file_is_short():
    said = report.text(broken())
    assert "- layer 1, self_attn.q_proj: 32 of 32 groups have the wrong scale" in said
    assert "Odd, harmless:\n- layer 2: odd" in said
    assert "It keeps" not in said and "Next steps" not in said and "nan" not in said.lower()


@pytest.mark.parametrize("mode", EXIT_CODES)
def test_every_mode_has_a_meaning(mode):
    assert report.MEANING[mode].endswith(".")


def test_columns_stand_under_each_other_at_the_left():
    lines = report._columns(pd.DataFrame({"a": ["x", "long"], "b": ["1", "22"]})).split("\n")
    assert lines == ["a     b", "x     1", "long  22"]


@pytest.mark.parametrize(
    ("forms", "responds", "words"),
    [("no", "yes", "adds up on the way"), ("yes", "no", "sits at the end"), ("no", "not asked", "could not be asked")],
)
def test_a_mixed_verdict_says_which_question_failed(forms, responds, words):
    answers = [forms, responds, *QUESTIONS["answer"][2:]]
    assert words in report.meaning(verdict(questions=QUESTIONS.assign(answer=answers)))
    both = verdict(questions=QUESTIONS.assign(answer=answers), file=Findings(faults=("a fault",)))
    assert report.meaning(both).startswith(report.MEANING["format bug"]) and words in report.meaning(both)
