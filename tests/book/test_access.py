"""Alternative text is made from the data, checked on every page; each page says what it is about."""

import altair as alt
import pandas as pd
import pytest
from tiny_book import write

from quantcliff import charts
from quantcliff.book import Book, assemble, execute, render
from quantcliff.book.access import descriptions
from quantcliff.charts.alternative import ranges
from quantcliff.errors import BuildError

TABLE = pd.DataFrame({"layer": [0, 7], "share": [0.25, 0.5], "low": [-0.001, 0.4], "high": [0.3, 0.6]})
PERCENT = alt.Y("share:Q", title="answers kept", axis=alt.Axis(format="%"))

BARE = """\
# Chapter NAME

What the page is about, "in short", & more.

```{code-cell} ipython3
import altair as alt
import pandas as pd

alt.Chart(pd.DataFrame({"a": [1, 2]})).mark_point().encode(x="a:Q").properties(description="DESCRIPTION")
```
"""


def test_ranges_are_those_of_the_data():
    lines = charts.lines(TABLE, alt.X("layer:O"), PERCENT, alt.Color())
    assert ranges(lines) == "Drawn: answers kept 0% to 60%."
    assert ranges(alt.Chart(TABLE.assign(share=[3.0, 1234.5])).mark_point().encode(y="share:Q")) == (
        "Drawn: share 3 to 1.23e+03."
    )


def test_ranges_look_into_every_part_and_skip_what_is_no_number():
    holes = TABLE.assign(share=[None, 0.5])
    point = alt.Chart(holes).mark_point().encode(x="layer:Q", y="share:Q")
    pair = alt.hconcat(point, point.encode(color="low:Q"))
    assert ranges(pair) == "Drawn: layer 0 to 7, share 0.5, low -0.001 to 0.4."
    assert ranges(point.facet("layer:N")).startswith("Drawn: ")
    assert ranges(alt.Chart(TABLE).mark_bar().encode(x="layer:N")) == ""


def test_finish_adds_ranges_and_refuses_to_be_silent():
    made = charts.finish(alt.Chart(TABLE).mark_line().encode(x="layer:O", y=PERCENT), "T", "A line that rises.")
    assert made.to_dict()["description"] == "A line that rises. Drawn: answers kept 25% to 50%."
    with pytest.raises(ValueError, match=r"the chart 'T' has no description"):
        charts.finish(alt.Chart(TABLE).mark_line(), "T", " ")


def built(tmp_path, text):
    root = write(tmp_path / "root", one=text)
    book = Book.read(root)
    execute(book.chapter("one"), {}, root / "one.ipynb", root)
    assemble(book, {book.chapter("one"): root / "one.ipynb"}, root / "out")
    return render(root / "out", root / "html").parent


def test_a_described_chart_passes_and_the_page_says_what_it_is_about(tmp_path):
    site = built(tmp_path, BARE.replace("DESCRIPTION", "Two points, one right of the other."))
    page = (site / "book" / "one.html").read_text()
    about = "What the page is about, “in short”, &amp; more."
    assert f'<meta name="description" content="{about}" />' in page
    assert '<meta property="og:title" content="Chapter one" />' in page
    assert page.count('name="viewport"') == 2  # of Sphinx and of the theme; that of docutils is gone
    assert 'rel="icon"' in page and (site / "_static" / "favicon.svg").is_file()
    assert descriptions(page) == ["Two points, one right of the other."]


def test_a_chart_and_a_picture_without_alternative_text_fail_the_build(tmp_path):
    with pytest.raises(BuildError, match=r"(?s)(one: a chart or picture has no alternative text.*){2}"):
        built(tmp_path, BARE.replace("DESCRIPTION", "") + "\n![](_static/cliff.png)\n")
