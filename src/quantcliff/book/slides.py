"""Slides made from the rendered pages of a book: one deck a chapter, for a browser without a network, and for paper.

A deck takes from its page, in this order: the title and the question, the goals, what was found in short, every formula
and every numbered chart with its caption as they come, and the claims. What is folded on the page is left out. Nothing
is written for the slides alone, so they cannot say something else than the page.

reveal.js turns them (from the wheel of sphinx-revealjs), MathJax sets the formulas, charts are pictures (SVG).
"""

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from bs4 import BeautifulSoup, Tag

from quantcliff.book.offline import MATHJAX, mathjax
from quantcliff.charts.bundle import VEGALITE

FOLDER, ASSETS = "slides", "assets"
"""Where a site has its decks, and what lies beside them."""

WIDTH = 700
"""Pixels that a chart is drawn wide which fills its column on a page; slides show it larger."""

CLAIMS = 6
"""Claims on a slide."""

FOLDED = "details, .sd-card.dropdown, .toggle, .tag_hide-output, .solution, section[id^=exercises]"
"""What is no part of a deck."""


@dataclass(frozen=True)
class Slide:
    """Title and body, both HTML; `kind` is the class of its section."""

    kind: str
    title: str
    body: str


def make(site: Path, out: Path) -> list[Path]:
    """Write a deck for every page of a site that makes claims and has formulas or numbered charts, and what decks need.

    Returns:
        The decks; none, and no folder, where the site has no such page.
    """
    pages = [page for page in sorted((site / "book").glob("*.html")) if _has_deck(page)]
    if not pages:
        return []
    (out / ASSETS).mkdir(parents=True, exist_ok=True)
    reveal = files("sphinx_revealjs") / "_static" / "revealjs"
    for part in ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE"):
        (out / ASSETS / Path(part).name).write_bytes((reveal / part).read_bytes())
    (out / ASSETS / MATHJAX).write_bytes(mathjax())
    for page in pages:
        (out / page.name).write_text(deck(page, os.path.relpath(page.parent, out)), encoding="utf-8")
    return [out / page.name for page in pages]


def _has_deck(page: Path) -> bool:
    text = page.read_text(encoding="utf-8")
    return ">Claim<" in text and ('class="caption-number">Fig' in text or '<div class="math' in text)


def deck(page: Path, home: str) -> str:
    """The deck of one page.

    Args:
        home: where the page's folder lies, seen from the deck's.
    """
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article.bd-article")
    assert article is not None, page
    _prepare(article, home)
    title, question = _question(article)
    slides = [*_goals(article), *_in_short(article), *_shown(article), *_claims(article)]
    environment = jinja2.Environment(loader=jinja2.PackageLoader("quantcliff.book"), autoescape=False)
    template = environment.get_template("slides.html.j2")
    return template.render(title=title, question=question, slides=slides, page=f"{home}/{page.name}", assets=ASSETS)


def _prepare(article: Tag, home: str) -> None:
    """Take out marks that only a page needs, and let links lead to the site."""
    for mark in article.select(".headerlink, .copybtn"):
        mark.decompose()
    for link in article.select("a[href]"):
        target = str(link["href"])
        if not re.match(r"[a-z]+:", target):
            link["href"] = f"{home}/{target}" if not target.startswith("#") else target
    for link in article.select('a[href^="#"]'):
        link.unwrap()


def _question(article: Tag) -> tuple[str, str]:
    """Title, and the paragraphs below it up to the first that is none."""
    head = article.select_one("h1")
    assert head is not None
    paragraphs = []
    for part in head.find_next_siblings():
        if part.name == "p":
            paragraphs.append(str(part))
        elif part.name == "section" or paragraphs:
            break
    return head.decode_contents(), "\n".join(paragraphs)


def _goals(article: Tag) -> Iterator[Slide]:
    card = article.select_one(".in-brief")
    goals = card.select_one("ul, ol") if card else None
    if goals:
        yield Slide("goals", "After this chapter you can", str(goals))


def _in_short(article: Tag) -> Iterator[Slide]:
    section = article.select_one("section#in-short")
    found = [str(part) for part in section.select("p, ul") if part.find_parent("ul") is None] if section else []
    if found:
        yield Slide("short", "In short", "\n".join(found))


def _shown(article: Tag) -> Iterator[Slide]:
    """Formulas and numbered charts as they come; formulas of one sentence, which one paragraph links, on one slide."""
    linked: Tag | None = None
    formulas: list[Slide] = []
    for part in article.select("div.math, figure"):
        if part.find_parent(lambda tag: tag.css.match(FOLDED)) or part.find_parent("table"):
            continue
        before = part.find_previous_sibling()
        if formulas and (part.name == "figure" or linked is None or before is not linked):
            yield formulas.pop()
        if part.name == "figure":
            yield from _figure(part)
            continue
        lead = str(before) if not formulas and isinstance(before, Tag) and before.name == "p" else ""
        linked = _goes_on(part)
        body = "\n".join([formulas.pop().body if formulas else lead, str(part), str(linked or "")])
        formulas = [Slide("formula", _heading(part), body)]
    yield from formulas


def _heading(part: Tag) -> str:
    found = part.find_previous(["h1", "h2", "h3", "h4"])
    return found.decode_contents() if isinstance(found, Tag) else ""


def _goes_on(part: Tag) -> Tag | None:
    """The rest of a sentence that a formula interrupts: the paragraph behind it, if it begins in lower case."""
    found = part.find_next_sibling()
    goes_on = isinstance(found, Tag) and found.name == "p" and found.get_text(strip=True)[:1].islower()
    return found if goes_on else None


def _figure(figure: Tag) -> Iterator[Slide]:
    number, text = figure.select_one(".caption-number"), figure.select_one(".caption-text")
    spec = chart(figure)
    if number and text and spec:
        words = f"<p class='caption'><b>{number.get_text(strip=True)}</b> {text.decode_contents()}</p>"
        yield Slide("figure", _heading(figure), f"{picture(spec)}\n{words}")


def chart(figure: Tag) -> dict[str, Any] | None:
    """The Vega-Lite specification of a chart in a page; None where a figure is none."""
    for script in figure.select("script"):
        if start := re.search(r'\}\)\((?=\{")', script.get_text()):
            return json.JSONDecoder().raw_decode(script.get_text(), start.end())[0]
    return None


def picture(spec: dict[str, Any]) -> str:
    """A chart as an image that needs nothing else, with the text that describes it."""
    if spec.get("width") == "container":
        spec = {**spec, "width": WIDTH}
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGALITE)
    code = base64.b64encode(svg.encode()).decode()
    words = str(spec.get("description", ""))
    return str(BeautifulSoup().new_tag("img", src=f"data:image/svg+xml;base64,{code}", alt=words))


def _claims(article: Tag) -> Iterator[Slide]:
    rows = [
        (cells[0].decode_contents(), cells[1].get_text(strip=True))
        for table in article.select("table")
        if (head := table.select_one("th")) and head.get_text(strip=True) == "Claim"
        for row in table.select("tbody tr")
        if len(cells := row.select("td")) == 2
    ]
    parts = list(_parts(rows, CLAIMS))
    for number, part in enumerate(parts, start=1):
        lines = "\n".join(f"<li class='{'holds' if here == 'holds' else 'other'}'>{_plain(claim)} <em>{here}</em></li>"
                          for claim, here in part)  # fmt: skip
        count = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        yield Slide("claims", f"Claims, checked when this was built{count}", f"<ul>{lines}</ul>")


def _plain(cell: str) -> str:
    return re.sub(r"^<p>(.*)</p>$", r"\1", cell.strip(), flags=re.S)


def _parts(rows: list[tuple[str, str]], size: int) -> Iterable[list[tuple[str, str]]]:
    """As few parts of at most this size as there must be, of nearly equal length."""
    count = -(-len(rows) // size)
    for number in range(count):
        yield rows[len(rows) * number // count : len(rows) * (number + 1) // count]
