"""What page 1 and the README say: their sentences come from one table."""

from pathlib import Path

import pandas as pd
import pytest

from quantcliff.book import front
from quantcliff.charts import front as charts
from quantcliff.stages import smollm2

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drawn():
    return pd.read_csv(ROOT / "book" / "_static" / "cliff.csv")


def test_readme_says_what_its_table_says(drawn):
    text = " ".join((ROOT / "README.md").read_text().split())
    for sentence in front.headline(drawn):
        assert sentence in text


def test_the_table_of_smollm2_is_the_shipped_one(drawn):
    shipped = smollm2.Shipped()
    made = front.results(front.REAL, shipped.table("verdict"), shipped.table("weights"))
    kept = drawn[drawn["model"] == front.REAL].reset_index(drop=True)
    pd.testing.assert_frame_equal(made, kept, atol=1e-6, rtol=0)


def test_numbers_that_change_change_the_sentences(drawn):
    less = drawn.assign(kept=drawn["kept"].where(drawn["bits"] != 2, 0.5))
    assert "50% at 2 bits" in front.headline(less)[0]
    none = drawn.assign(responds=0.25)
    assert "gives 25% of them again" in front.headline(none)[1]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("own", 4, 0.9, "intact")], "at 4 bits intact."),
        ([("gptq", 4, 0.9, "mixed"), ("gptq", 3, 0.5, "mixed")], "at 4 and 3 bits mixed."),
        ([("gptq", 2, 0.0, "mixed"), ("rtn", 2, 0.0, "computation collapse")],
         "at 2 bits mixed with GPTQ and computation collapse with RTN."),
    ],
)  # fmt: skip
def test_any_methods_and_widths_make_sentences(rows, said):
    table = pd.DataFrame(rows, columns=["method", "bits", "kept", "mode"]).assign(model="mine")
    first, second = front.summary(table)
    assert first.startswith("Of what it answers in full precision, mine keeps ")
    assert second == f"The verdict on mine: {said}"


def test_the_picture_describes_what_it_draws(drawn):
    chart = charts.cliff(drawn).to_dict()
    assert "atlas keeps 100% at 8 bits, 94% to 96% at 4 bits" in chart["description"]
    assert "SmolLM2 keeps" in chart["description"]
    domain = chart["layer"][0]["encoding"]["color"]["scale"]
    assert domain["domain"] == ["atlas", "SmolLM2"] and len(set(domain["range"])) == 2


def test_a_third_model_gets_a_color_of_its_own(drawn):
    names = {"atlas": "theirs"}
    scale = charts.cliff(drawn.replace({"model": names})).to_dict()["layer"][0]["encoding"]["color"]["scale"]
    assert len(set(scale["range"])) == 2
