"""The paper's figures beside ours: the rule, the figures, and the commands that would settle them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantcliff.book import Book, beside, check_parameters
from quantcliff.stages import smollm2
from quantcliff.study import preset_of

NAN = float("nan")
ENDS = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(sorted)


@pytest.mark.parametrize(
    ("relation", "value", "upper", "low", "high", "outcome"),
    [
        ("about", 0.8, NAN, 0.71, 0.89, "agrees"),
        ("about", 0.8, NAN, 0.69, 0.89, "cannot be told"),
        ("about", 0.8, NAN, 0.2, 0.69, "differs"),
        ("about", 0.8, NAN, 0.1, 1.0, "cannot be told"),
        ("between", 0.3, 0.7, 0.21, 0.79, "agrees"),
        ("between", 0.3, 0.7, 0.81, 0.9, "differs"),
        ("above", 0.8, NAN, 0.81, 0.9, "agrees"),
        ("above", 0.8, NAN, 0.79, 0.9, "cannot be told"),
        ("above", 0.8, NAN, 0.6, 0.79, "differs"),
        ("below", 5, NAN, 2, 5, "agrees"),
        ("below", 5, NAN, 6, 9, "differs"),
        ("mode", 4, NAN, 0.0, 0.9, "agrees"),
        ("mode", 4, NAN, 0.9, 1.1, "cannot be told"),
        ("mode", 4, NAN, 1.1, 1.2, "differs"),
        ("mode", 2, NAN, 1.0, 1.2, "agrees"),
        ("mode", 2, NAN, 0.2, 0.9, "differs"),
        ("none", NAN, NAN, 0.2, 0.9, "cannot be told"),
        ("about", 0.8, NAN, NAN, NAN, "cannot be told"),
    ],
)
def test_the_rule(relation, value, upper, low, high, outcome):
    assert beside.judge(relation, *map(float, (value, upper, low, high))) == outcome


@given(ENDS, st.sampled_from(["about", "above", "below", "between"]), st.floats(-1, 1), st.floats(0, 1))
def test_a_part_of_an_interval_never_says_the_contrary(ends, relation, value, share):
    low, high = ends
    whole = beside.judge(relation, value, value + 0.2, low, high)
    middle = low + share * (high - low)
    part = beside.judge(relation, value, value + 0.2, middle, middle)
    assert whole in (part, beside.UNKNOWN)


def layers(*values: tuple[float, float, float]) -> pd.DataFrame:
    rows = [{"signal": "alone", "layer": n, "method": "gptq", "bits": 2, "value": v, "low": a, "high": b}
            for n, (v, a, b) in enumerate(values)]  # fmt: skip
    return pd.DataFrame(rows).astype({"layer": "Int64"})


def test_early_layers():
    good, bad, vague = (0.9, 0.8, 0.95), (0.1, 0.05, 0.2), (0.5, 0.1, 0.9)
    assert beside.early(layers(bad, good, good), "gptq", 2) == ("layer 0 of 3: 0.10 kept (0.05 to 0.20)", "agrees")
    assert beside.early(layers(good, good, bad), "gptq", 2)[1] == "differs"
    assert beside.early(layers(bad, good, vague), "gptq", 2)[1] == "cannot be told"
    assert beside.early(layers(bad, good, good), "awq", 2) == ("not measured", "cannot be told")


def test_figures_of_the_paper_are_those_of_the_chapter_and_can_be_found_here():
    said, ours = beside.published(), set(smollm2.figures(smollm2.Shipped().stages())["figure"])
    known = set(said.loc[~said["relation"].isin(["none", "early"]), "ours"])
    assert known <= ours
    assert set(smollm2.paper()["figure"]) <= known
    numbers = smollm2.paper().dropna(subset="value").merge(said, left_on=["figure", "bits"], right_on=["ours", "bits"])
    same = numbers[numbers["relation"] != "between"]
    assert np.allclose(same["value_x"], same["value_y"]) and len(same) >= 16
    assert not said.duplicated(["figure", "bits", "says"]).any()


def test_every_model_has_every_figure_once():
    stages = smollm2.Shipped().stages()
    figures = {"a": smollm2.figures(stages), "b": smollm2.figures(stages)}
    table = beside.beside(figures, {"a": stages["verdict"], "b": stages["verdict"]})
    assert len(table) == 2 * len(beside.published())
    one, other = (table[table["model"] == name].reset_index(drop=True) for name in "ab")
    assert one["outcome"].tolist() == other["outcome"].tolist()
    assert sum(beside.counts(table, "a").values()) == len(one)
    assert sum(sum(beside.counts(table, "a", bits).values()) for bits in (2, 4)) == len(one)
    rank = one[(one["ours"] == "answer rank") & (one["bits"] == 4)].iloc[0]
    assert rank["here"] == "2 (2 to 3)" and rank["outcome"] == "agrees"


def test_the_commands_are_understood():
    root = Path(__file__).parents[2]
    book = Book.read(root)
    words = beside.PRESET.split()
    given = dict(zip(words[3::3], words[4::3], strict=True))
    assert set(given) == {"model", "facts", "calibration"} and preset_of("x", words[1]).methods == ("gptq",)
    for chapter in beside.published()["chapter"].unique():
        assert check_parameters(given, [book.chapter(chapter)]) == given
        assert beside.command(chapter).startswith(f"quantcliff run {chapter} --preset paper ")
