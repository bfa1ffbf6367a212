"""A built site opened in a real browser that has no network: charts, formulas, both themes, wide and on a phone.

`SITE=_build/atlas/html pytest tests/test_rendered.py` opens that site too.
"""

import html
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

import pytest
from tiny_book import write

from quantcliff import book
from quantcliff.book import Book
from quantcliff.book.access import CHART

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom",
         "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost", "--window-size=1500,1000"]  # fmt: skip
HARMLESS = ("Got invalid theme mode", "[PST]: ", "[togglebutton]")

AXE = files("axe_playwright_python") / "axe.min.js"

CHARTS = """\
# Charts

Inline $\\boldsymbol{h}_l$ and displayed:

$$
H = -\\frac{1}{\\ln n} \\sum_i p_i \\ln p_i
$$

```{code-cell} ipython3
import altair as alt
import pandas as pd

from quantcliff import charts
from quantcliff.book import say, say_table

bits = [b for b in (8, 4, 3, 2) for _ in range(8)]
table = pd.DataFrame({"bits": bits, "layer": [*range(8)] * 4, "share": [i / 40 for i in range(32)]})
table["low"], table["high"] = table["share"] - 0.05, table["share"] + 0.05
lines = charts.lines(table, alt.X("layer:O"), alt.Y("share:Q"), charts.bits_color(table), tooltip=["bits", "share"])
title = "A title that is long enough to need two lines on any telephone"
charts.finish(alt.layer(lines, charts.reference(0.2, "chance")), title, "Four lines, one per bit width, all rising.")
```

```{code-cell} ipython3
square = alt.Chart(table).mark_rect().encode(x="layer:O", y="bits:N", color="share:Q").properties(width=220)
charts.finish(alt.hconcat(square, square), "Side by side", "Two equal heat maps, share by layer and bits.")
```

```{code-cell} ipython3
say(f"Computed: $x = {len(table)}$.")
say_table(table.head(3).assign(a=1.0, wide="a rather wide column of text", wider="and another column that is as wide"))
```
"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a site, and beside it the page that looks at it."""

    def translate_path(self, path: str) -> str:
        name = path.split("?")[0]
        beside = {"/probe.html": Path(__file__).with_name("probe.html"), "/axe.min.js": AXE}
        return str(beside.get(name) or super().translate_path(name))

    def log_message(self, *arguments: object) -> None:
        pass


TALLEST = 9000
"""Pixels of a page on a wide screen: what is for the careful reader is folded."""

AT_ONCE = 4
"""Pages that one browser opens, one after another."""


REFERENCE = ("index", "stage_macro", "stage_patching", "tracing")
"""Of the reference, whose 29 pages are made alike from docstrings, those that are opened: the longest is among them."""


def looked_at(site: Path) -> list[str]:
    """Pages of a site that a browser opens."""
    pages = sorted(str(path.relative_to(site)) for path in site.glob("book/**/*.html"))
    return [page for page in pages if "/api/" not in page or Path(page).stem in REFERENCE]


def open_pages(site: Path, profile: Path) -> tuple[list[dict], list[str]]:
    """What the probe saw on every page of a site, and what the browser's console said."""
    pages = looked_at(site)
    seen, said = [], []
    with ThreadingHTTPServer(("localhost", 0), partial(Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for first in range(0, len(pages), AT_ONCE):
            query = urlencode({"page": pages[first : first + AT_ONCE]}, doseq=True)
            url = f"http://localhost:{server.server_port}/probe.html?{query}"
            command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--virtual-time-budget={60_000 * AT_ONCE}", url]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
            result = re.search(r'<pre id="result">(.+?)</pre>', done.stdout, re.DOTALL)
            assert result, f"the browser did not finish: {done.stderr[-2000:]}"
            seen += json.loads(html.unescape(result[1]))
            said += re.findall(r'CONSOLE[^"]*"(.*)", source:', done.stderr)
        server.shutdown()
    return seen, [line for line in said if not line.startswith(HARMLESS)]


@pytest.fixture(scope="module", params=["tiny", "SITE"])
def site(request, tmp_path_factory):
    """Folder of a built site: one made here, and the one that the environment variable SITE names."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine")
    if request.param == "SITE":
        if "SITE" not in os.environ:
            pytest.skip("the environment variable SITE names no built site")
        return Path(os.environ["SITE"]).resolve()
    root = write(tmp_path_factory.mktemp("site") / "root", charts=CHARTS)
    return book.build(Book.read(root), {}, root / "out").parent


def test_every_page_draws_in_a_browser_without_network(site, tmp_path):
    seen, console = open_pages(site, tmp_path)
    assert console == []
    assert len(seen) == 4 * len(looked_at(site))
    for view in seen:
        assert view["drawn"] == view["described"] == view["charts"], view
        assert view["typeset"] == view["formulas"], view
        assert not view["broken"] and not view["foreign"], view
        assert view["cut"] == view["unnamed"] == [], view
        assert view["barriers"] == [], view
        assert view["width"] < 1400 or view["tall"] <= TALLEST, view
        assert view["misfits"] == sum(view["resized"]) == 0, view
        assert view["sideways"] <= 0 and view["stretched"], view
        assert view["contrast"] >= 4.5, view
        assert (view["background"] < 0.1) == (view["theme"] == "dark"), view
    assert sum(view["charts"] for view in seen) >= 8
    assert sum(view["formulas"] for view in seen) >= 12


class Links(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, page: Path):
        super().__init__()
        self.targets: list[str] = []
        self.names = {""}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.names |= {told.get("id") or "", told.get("name") or ""}
        link = told.get("href") if tag == "a" else told.get("src") if tag in ("img", "script") else None
        if link and not urlsplit(link).scheme and not link.startswith("//"):
            self.targets.append(link)


def test_every_internal_link_and_anchor_leads_somewhere(site):
    pages = {page.resolve(): Links(page) for page in site.glob("**/*.html") if "_static" not in page.parts}
    lost = []
    for page, links in pages.items():
        for target in links.targets:
            path, anchor = urlsplit(target).path, unquote(urlsplit(target).fragment)
            there = (page.parent / unquote(path)).resolve() if path else page
            if not there.exists() or (there in pages and anchor not in pages[there].names):
                lost.append(f"{page.relative_to(site.resolve())}: {target}")
    assert not lost, lost


def colors(part: object) -> Iterator[tuple[str, str]]:
    """Every name in a chart's legends with its colour."""
    for one in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
        yield from colors(one)
    scale = part.get("scale") if isinstance(part, dict) else None
    if isinstance(scale, dict) and isinstance(scale.get("range"), list) and "domain" in scale:
        pairs = zip(scale["domain"], scale["range"], strict=False)
        yield from ((f"{name:g}" if isinstance(name, float | int) else name, one) for name, one in pairs
                    if str(one).startswith("#"))  # fmt: skip


def test_a_name_has_one_color_on_all_pages(site):
    found: dict[str, dict[str, str]] = {}
    for page in site.glob("book/*.html"):
        for chart in CHART.findall(page.read_text(encoding="utf-8")):
            for name, color in colors(json.loads(chart)):
                found.setdefault(name, {})[color] = page.stem
    assert {"2", "3", "4", "8"} <= found.keys()
    assert {name: pages for name, pages in found.items() if len(pages) > 1} == {}
