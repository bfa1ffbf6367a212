"""Decks made of a page written by hand: what is taken, what is left, that a browser shows them without a network."""

import json
import re
import subprocess

import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from test_rendered import CHROMIUM, FLAGS

from quantcliff.book import slides
from quantcliff.cli import app

SPEC = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.4.1.json", "description": 'A bar, "5" high.',
    "width": "container", "data": {"values": [{"bits": 4, "kept": 5}]}, "mark": "bar",
    "encoding": {"x": {"field": "bits", "type": "nominal"}, "y": {"field": "kept", "type": "quantitative"}},
}  # fmt: skip


def figure(number, caption, spec=SPEC):
    return f"""<figure id="fig-{number}"><div class="output"><div id="altair-viz-{number}"></div>
<script>var VEGA_DEBUG = {{}};
(function(spec, opt){{ draw(spec) }})({json.dumps(spec)}, {{"mode": "vega-lite"}});
</script></div><figcaption>
<p><span class="caption-number">Fig. {number} </span><span class="caption-text">{caption}</span>
<a class="headerlink" href="#fig-{number}">#</a></p></figcaption></figure>"""


HELD = {8: "does not hold"}
CLAIMS = "".join(
    f"<tr><td><p>Claim {n} <code>x</code>.</p></td><td><p>{HELD.get(n, 'holds')}</p></td></tr>" for n in range(1, 9)
)
PAGE = f"""<html><body><nav><p>menu</p></nav><article class="bd-article"><section id="t">
<h1>The <em>cliff</em><a class="headerlink" href="#t">#</a></h1>
<p>What falls? See <a href="patching.html">patching</a> and <a href="https://arxiv.org/abs/1">a paper</a>.</p>
<div class="in-brief admonition"><p>In this chapter</p><ul><li>say what falls</li></ul></div>
<p>Not the question.</p>
<section id="in-short"><h2>In short</h2><p>At 4 bits 5 are kept.</p></section>
<section id="measured"><h2>What is measured</h2><p>With the scale,</p>
<div class="math">\\[ q = w / s \\]</div><p>and with the zero point</p>
<div class="math">\\[ q = w / s + z . \\]</div><p>Then something else,</p>
<div class="math">\\[ r = 1 \\]</div><p>New paragraph.</p>
{figure(1, "What to <em>see</em>.")}
<details><summary>For the careful reader</summary>{figure(2, "folded")}
<div class="math">\\[ folded \\]</div></details></section>
<section id="summary"><h2>Summary</h2>
<table><thead><tr><th>Claim</th><th>Here</th></tr></thead><tbody>{CLAIMS}</tbody></table></section>
<section id="exercises"><h2>Exercises</h2><div class="math">\\[ asked \\]</div></section>
</section></article></body></html>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = tmp_path_factory.mktemp("slides") / "html"
    (site / "book").mkdir(parents=True)
    (site / "book" / "macro.html").write_text(PAGE)
    (site / "book" / "guide.html").write_text(
        re.sub(r"<figure.*</figure>|<div class=.math.*?</div>", "", PAGE, flags=re.S)
    )
    (site / "book" / "plain.html").write_text(re.sub(r"<figure.*?</figure>", "", PAGE, flags=re.S))
    (site / "book" / "intro.html").write_text("<article class='bd-article'><h1>No chart, no claim</h1></article>")
    return site


@pytest.fixture(scope="module")
def deck(site):
    assert [path.name for path in slides.make(site, site / slides.FOLDER)] == ["macro.html", "plain.html"]
    return BeautifulSoup((site / "slides" / "macro.html").read_text(), "html.parser")


def kinds(deck):
    return [section["class"][0] for section in deck.select("section")]


def test_a_deck_has_what_its_page_has_in_that_order(deck):
    assert kinds(deck) == ["title", "goals", "short", "formula", "formula", "figure", "claims", "claims"]
    assert deck.select_one(".title h1").decode_contents() == "The <em>cliff</em>"
    assert "What falls?" in deck.select_one(".title").get_text() and "Not the question" not in deck.get_text()
    assert deck.select_one(".goals li").get_text() == "say what falls"
    assert "5 are kept" in deck.select_one(".short").get_text()


def test_a_formula_brings_its_sentence_and_formulas_of_one_sentence_stay_together(deck):
    first, second = (re.sub(r"\s+", " ", part.get_text()) for part in deck.select(".formula"))
    assert (
        first.strip()
        == "What is measured With the scale, \\[ q = w / s \\] and with the zero point \\[ q = w / s + z . \\]"
    )
    assert second.strip() == "What is measured Then something else, \\[ r = 1 \\]"


def test_a_chart_is_a_picture_with_number_caption_and_words(deck):
    (shown,) = deck.select(".figure")
    assert shown.img["src"].startswith("data:image/svg+xml;base64,")
    assert shown.img["alt"] == SPEC["description"]
    assert shown.select_one(".caption").decode_contents() == "<b>Fig. 1</b> What to <em>see</em>."
    assert shown.h2.get_text() == "What is measured"


def test_folded_parts_exercises_and_menus_are_left_out(deck):
    assert not re.search("folded|asked|menu|#", deck.select_one("main").get_text())


def test_claims_are_parted_evenly_and_one_that_fails_is_marked(deck):
    first, second = deck.select(".claims")
    assert [len(part.select("li")) for part in (first, second)] == [4, 4]
    assert [line["class"] for line in second.select("li")] == [["holds"]] * 3 + [["other"]]
    assert second.select("li")[3].get_text() == "Claim 8 x. does not hold"


def test_links_lead_back_to_the_site_from_wherever_the_deck_lies(deck, site, tmp_path):
    links = {link.get_text(): link["href"] for link in deck.select("a")}
    assert links == {"patching": "../book/patching.html", "a paper": "https://arxiv.org/abs/1",
                     "the page of this name": "../book/macro.html"}  # fmt: skip
    done = CliRunner().invoke(app, ["slides", str(tmp_path / "out"), "--site", str(site)])
    assert done.exit_code == 0 and "2 decks are ready" in done.output
    home = re.search(r'href="([^"]*)/macro.html"', (tmp_path / "out" / "macro.html").read_text())[1]
    assert (tmp_path / "out" / home).resolve() == site / "book"


def test_a_folder_without_a_book_is_refused_in_one_sentence(tmp_path):
    done = CliRunner().invoke(app, ["slides", str(tmp_path / "out"), "--site", str(tmp_path)])
    assert str(done.exception).startswith("there is nothing to make slides of")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_browser_without_a_network_turns_slides_sets_formulas_and_fits_them(deck, site, tmp_path):
    address = (site / "slides" / "macro.html").as_uri()
    command = [CHROMIUM, *FLAGS, "--virtual-time-budget=10000", f"--user-data-dir={tmp_path}", f"{address}#/3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    shown = BeautifulSoup(done.stdout, "html.parser")
    present = shown.select_one("section.present")
    assert present["class"][0] == "formula" and len(present.select("mjx-container svg")) == 2
    assert "\\[" not in shown.select_one("main").get_text()
    assert "ERR_" not in done.stderr and "Uncaught" not in done.stderr
