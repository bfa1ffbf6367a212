"""The shared chart shapes, as the specification a browser gets."""

from types import SimpleNamespace
from unittest.mock import Mock

import altair as alt
import pandas as pd
import pytest
from sphinx.application import Sphinx

from quantcliff import charts
from quantcliff.book import offline
from quantcliff.charts.picture import picture

TABLE = pd.DataFrame(
    {"bits": [8, 2, 5], "method": ["rtn", "mine", "gptq"], "estimate": [0.9, 0.1, 0.5], "low": 0.0, "high": 1.0}
)


def test_colors_follow_what_the_table_holds():
    bits = charts.bits_color(TABLE).to_dict()["scale"]
    assert bits == {"domain": [8, 5, 2], "range": [charts.BITS[8], charts.NEUTRAL, charts.BITS[2]]}
    methods = charts.method_color(TABLE).to_dict()["scale"]
    assert methods["domain"] == ["gptq", "rtn", "mine"]
    assert methods["range"] == [charts.METHODS["gptq"], charts.METHODS["rtn"], charts.NEUTRAL]


def test_full_precision_is_named_so_beside_bit_widths():
    legend = charts.bits_color(TABLE.assign(bits=[32, 4, 2])).to_dict()["legend"]
    assert legend["labelExpr"] == "datum.value >= 16 ? 'full precision' : datum.label"


@pytest.mark.parametrize(
    ("drawn", "marks"),
    [
        ([0.7, 4000], [0.1, 1, 10, 100, 1000, 10000]), ([3, 40], [1, 2, 5, 10, 20, 50, 100]), ([10, 100], [10, 100]),
        ([2, 3], [1, 2, 5, 10]), ([0, float("nan"), 1, 1000], [1, 10, 100, 1000]), ([], [1, 2, 5, 10]),
    ],
)  # fmt: skip
def test_logarithmic_axes_name_decades(drawn, marks):
    assert charts.decades(drawn).to_dict()["values"] == marks


def test_groups_side_by_side_stand_apart():
    x, y, color = alt.X("bits:N"), alt.Y("estimate:Q"), charts.method_color(TABLE)
    _, points = charts.intervals(TABLE, x, y, color, offset="method").to_dict()["layer"]
    assert points["encoding"]["xOffset"]["scale"] == {"padding": 1}


def test_finish_wraps_the_title_describes_and_stretches():
    single = charts.finish(alt.Chart(TABLE).mark_point(), "word " * 20, "What it shows.").to_dict()
    assert max(map(len, single["title"])) <= 48
    assert (single["description"], single["width"], single["height"]) == ("What it shows.", "container", 240)
    pair = charts.finish(alt.hconcat(alt.Chart(TABLE).mark_point(), alt.Chart(TABLE).mark_bar()), "T", "D").to_dict()
    assert "width" not in pair
    assert pair["description"] == "D"


@pytest.mark.parametrize("shape", [charts.lines, charts.intervals])
def test_intervals_share_the_axis_of_their_estimate(shape):
    chart = shape(
        TABLE, alt.X("bits:N"), alt.Y("estimate:Q", title="share"), charts.method_color(TABLE), tooltip=["bits"]
    )
    interval, points = (layer["encoding"] for layer in chart.to_dict()["layer"])
    assert (interval["y"]["field"], interval["y2"]["field"], points["y"]["field"]) == ("low", "high", "estimate")
    assert interval["y"]["title"] == interval["y2"]["title"] == points["y"]["title"] == "share"
    assert points["tooltip"] == [{"field": "bits", "type": "quantitative"}]
    untitled = shape(TABLE, alt.X("bits:N"), alt.Y("estimate:Q"), charts.method_color(TABLE)).to_dict()
    assert untitled["layer"][0]["encoding"]["y"]["title"] == "estimate"


def test_lines_without_intervals_have_no_band():
    chart = charts.lines(TABLE, alt.X("bits:N"), alt.Y("estimate:Q"), charts.bits_color(TABLE), low=None)
    assert [layer["mark"]["type"] for layer in chart.to_dict()["layer"]] == ["line"]


@pytest.mark.parametrize(("side", "end"), [("left", 0), ("right", "width")])
def test_reference_line_is_named_at_one_end(side, end):
    rule, text = charts.reference(0.5, "chance", side=side).to_dict()["layer"]
    assert rule["mark"]["strokeDash"] == [4, 4]
    assert text["encoding"]["x"] == {"value": end}
    assert text["mark"]["align"] == side


def test_text_takes_the_color_of_the_page():
    config = alt.Chart(TABLE).mark_point().to_dict()["config"]
    inks = [config[part][key] for part in ("axis", "legend", "header") for key in ("labelColor", "titleColor")]
    assert {*inks, config["title"]["color"], config["text"]["color"]} == {"currentColor"}
    assert config["background"] == "transparent"


def test_picture_is_a_png():
    rows = [("atlas", "gptq", 4, 0.9), ("atlas", "gptq", 2, 0.1)]
    table = pd.DataFrame(rows, columns=["model", "method", "bits", "kept"])
    table = table.assign(low=0.0, high=1.0, n=10, mode="mixed")
    assert picture(table).startswith(b"\x89PNG")


def test_offline_assets_are_the_versions_that_altair_asks_for(tmp_path):
    app = Mock(spec=Sphinx, outdir=tmp_path, config=SimpleNamespace())
    app.connect.side_effect = lambda event, act: act(app)
    offline.setup(app)
    vega = (tmp_path / "_static" / offline.VEGA).read_text()
    for version in (alt.VEGA_VERSION, alt.VEGALITE_VERSION, alt.VEGAEMBED_VERSION):
        assert f'"{version}"' in vega.splitlines()[-1]
    assert vega.startswith("(function(){")
    assert "MathJax" in (tmp_path / "_static" / app.config.mathjax_path).read_text()


def test_only_lines_are_dashed():
    """Vega-Lite drops dashes from bands, and says so in every reader's console."""
    shown = charts.lines(
        TABLE, alt.X("bits:O"), alt.Y("estimate:Q"), charts.bits_color(TABLE), dash=alt.StrokeDash("method:N")
    )
    band, line = shown.to_dict()["layer"]
    assert "strokeDash" not in band["encoding"] and band["encoding"]["detail"]["field"] == "method"
    assert line["encoding"]["strokeDash"]["field"] == "method"
