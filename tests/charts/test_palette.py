"""Colours of the book: one for each thing, in one place, that stay apart for readers who see no red or no green."""

import ast
import itertools
import re
from pathlib import Path

import altair as alt
import jupytext
import numpy as np
import pandas as pd
import pytest

from quantcliff import charts
from quantcliff.charts import BITS, FULL, METHODS, palette

ROOT = Path(__file__).parents[2]
MODULES = [*(ROOT / "src/quantcliff/charts").glob("*.py"), ROOT / "src/quantcliff/diagnosis/page.py"]
PAGES = sorted((ROOT / "book").rglob("*.md"))

LITERAL = re.compile(
    r"#[0-9a-fA-F]{3,8}$|(white|black|gr[ae]y|red|green|blue|orange|purple|brown|pink|teal|gold|crimson|firebrick|"
    r"(dark|light|steel|royal|dodger|slate|sea|forest)\w+)$"
)
"""What is written where a colour is meant; `currentColor` and `transparent` are the page's own."""

DARK, LIGHT = "#14181e", "#ffffff"
"""The page's background in both themes."""

SIGHT = {
    "full": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
"""How linear RGB is seen (Machado, Oliveira and Fernandes 2009, doi 10.1109/TVCG.2009.113, severity 1)."""

XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)

LEAST = 20
"""Distance in CIELAB that two colours keep at least; 2.3 is just noticeable side by side."""


def seen(color: str, sight: str) -> np.ndarray:
    """CIELAB coordinates of a colour, as someone of that sight sees it."""
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(np.array(SIGHT[sight]) @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), 841 / 108 * ratio + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(color: str) -> float:
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ XYZ[1])


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def apart(colors: set[str], sight: str) -> float:
    """Distance of the two that are nearest to each other."""
    return min(
        float(np.linalg.norm(seen(a, sight) - seen(b, sight))) for a, b in itertools.combinations(sorted(colors), 2)
    )


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("family", palette.FAMILIES)
def test_colors_that_stand_side_by_side_stay_apart(family, sight):
    assert apart({*palette.FAMILIES[family].values()}, sight) >= LEAST


@pytest.mark.parametrize("sight", SIGHT)
def test_colors_for_anything_stay_apart_and_apart_from_baselines(sight):
    assert apart({*palette.SERIES, palette.CONTROL, FULL}, sight) >= LEAST


@pytest.mark.parametrize("color", sorted({*palette.NAMES.values(), *palette.SERIES}))
def test_every_color_stands_out_from_a_light_and_a_dark_page(color):
    assert contrast(color, LIGHT) >= 3 and contrast(color, DARK) >= 3


@pytest.mark.parametrize("family", ["readings", "verdicts", "answers", "agreement"])
def test_letters_stand_out_from_what_they_are_written_on(family):
    assert min(contrast(color, LIGHT) for color in palette.FAMILIES[family].values()) >= 4.5


def test_a_name_has_one_color_in_all_families():
    for family in palette.FAMILIES.values():
        assert {name: palette.NAMES[name] for name in family} == dict(family)


@pytest.mark.parametrize("file", [*MODULES, *PAGES], ids=lambda path: path.stem)
def test_no_color_is_written_down_but_in_the_palette(file):
    if file.name == "palette.py":
        return
    sources = [file.read_text()]
    if file.suffix == ".md":
        sources = [cell.source for cell in jupytext.read(file, fmt="md:myst").cells if cell.cell_type == "code"]
    found = [
        node.value for source in sources for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and LITERAL.match(node.value)
    ]  # fmt: skip
    assert not found


def test_widths_are_numbers_and_names():
    assert [palette.color(bits) for bits in (4, np.int64(4), 4.0, "4")] == [BITS[4]] * 4
    assert palette.color(2.75) == palette.color(2.5) == palette.BETWEEN
    assert palette.color(16) == palette.color(32.0) == palette.color("full precision") == FULL
    assert palette.color(5) is None and palette.color("somebody's") is None


def test_what_has_no_color_takes_one_that_no_other_has():
    made = charts.scale(["gptq", "robust", "mine", "yours", 5, "a fifth"]).to_dict()
    assert made["domain"] == ["gptq", "robust", "mine", "yours", 5, "a fifth"]
    assert made["range"][:2] == [METHODS["gptq"], palette.BLUE]
    assert set(made["range"][2:5]) == {*palette.SERIES} - {palette.BLUE}
    assert FULL not in made["range"]


def test_a_chart_with_colors_of_its_own_is_refused():
    table = pd.DataFrame({"method": ["gptq", "mine"], "x": [1, 2]})
    wrong = alt.Scale(domain=["gptq", "mine"], range=[METHODS["awq"], BITS[2]])
    point = alt.Chart(table).mark_point().encode(x="x:Q", color=alt.Color("method:N", scale=wrong))
    with pytest.raises(ValueError, match=r"the chart 'T' has its own colours for gptq; take those of charts.palette"):
        charts.finish(alt.layer(point, point), "T", "Two points.")
    charts.finish(point.encode(color=charts.method_color(table)), "T", "Two points.")


def test_simulation_takes_red_and_green_for_alike():
    assert np.linalg.norm(seen("#b00000", "no red") - seen("#5a5a00", "no red")) < 25
    assert np.linalg.norm(seen("#b00000", "full") - seen("#5a5a00", "full")) > 60
