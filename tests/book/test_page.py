"""The card `{in-brief}`, links to pages that are left out, the bibliography: rendered in one small book."""

import json
import re

import nbformat
import pytest
from tiny_book import CHAPTER, write

from quantcliff.book import Book, assemble, render
from quantcliff.book.citing import label
from quantcliff.book.page import minutes, run_seconds
from quantcliff.errors import BuildError

CARD = """\
# Chapter NAME

```{in-brief}
:needs: [the other](two) and {cite:t}`frantar2022gptq`
:terms: residual stream, logit lens
- say what a lens reads,
- compute $x$ by hand.
```

WORDS

| a | b |
|---|---|
| not | counted |

```{dropdown} Folded
FOLDED
```

```{code-cell} ipython3
print("not counted either " * 1000)
```
""".replace("WORDS", "word " * 1000).replace("FOLDED", "more " * 3000)

GLOSSARY = "# Glossary\n\n```{glossary}\nresidual stream\n  A sum.\n\nlogit lens\n  A reading.\n```\n"
WORKS = "# Works\n\n```{bibliography}\n:all:\n```\n\n[Gone](gone), [elsewhere](gone.md), {numref}`fig-gone-x`.\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A rendered book whose page `one` was executed in 100 seconds and whose page `gone` is left out."""
    pages = {"one": CARD, "two": CARD.replace("(two)", "(one)"), "glossary": GLOSSARY, "works": WORKS, "gone": CHAPTER}
    root = write(tmp_path_factory.mktemp("cards") / "root", **pages)
    gone = root / "book" / "gone.md"
    gone.write_text(gone.read_text().replace("---\n", "---\nabout: x\n", 1))
    book = Book.read(root).of("atlas")
    one = book.chapter("one").notebook
    one.metadata["papermill"] = {"duration": 100.0}
    nbformat.write(one, root / "one.ipynb")
    assemble(book, {book.chapter("one"): root / "one.ipynb"}, root / "out")
    return render(root / "out", root / "html").parent


def card(site, page):
    whole = (site / "book" / f"{page}.html").read_text()
    return re.sub(r"\s+", " ", re.search(r'<div class="in-brief admonition">.*?</div>', whole, re.DOTALL)[0])


def test_card_shows_goals_needs_time_and_terms(site):
    shown = card(site, "one")
    assert "In this chapter" in shown
    assert "<li><p>say what a lens reads,</p></li>" in shown
    assert re.search(r'Before it:</strong> <a [^>]*href="two.html"', shown)
    assert 'href="works.html#' in shown and "Frantar" in shown
    assert "about 5 minutes to read (some 1,000 words); its cells ran 2 minutes in this build." in shown
    assert 'href="glossary.html#term-residual-stream"' in shown and 'href="glossary.html#term-logit-lens"' in shown


def test_a_page_that_was_not_executed_names_no_run_time(site):
    assert "to read (some 1,000 words)." in card(site, "two")


def test_links_to_pages_left_out_become_text(site):
    whole = (site / "book" / "works.html").read_text()
    assert re.search(r"<p>Gone, elsewhere, .*?\.</p>", re.sub("<[^p/][^>]*>|</[^p][^>]*>", "", whole))
    assert "gone.html" not in whole


def test_bibliography_lists_every_work_by_author_and_year(site):
    whole = (site / "book" / "works.html").read_text()
    assert "Frantar et al., 2023" in whole and "Allen-Zhu and Li, 2024" in whole
    works = (site.parent / "book" / "references.bib").read_text()
    assert whole.count('<div class="citation"') == len(re.findall(r"^@", works, re.MULTILINE))


@pytest.mark.parametrize("broken", ["```{in-brief}\n```", "```{in-brief}\n:terms: no such term\n- a\n```"])
def test_an_empty_card_or_an_unknown_term_fails_the_build(tmp_path, broken):
    root = write(tmp_path / "root", one=f"# One\n\n{broken}\n")
    book = Book.read(root)
    assemble(book, {}, root / "out")
    with pytest.raises(BuildError):
        render(root / "out", root / "html")


def test_every_work_can_be_found(site):
    from pybtex.database import parse_file

    works = parse_file(str(site.parent / "book" / "references.bib"))
    for key, work in works.entries.items():
        assert {"eprint", "doi", "url"} & set(work.fields), key
        assert label(work) and work.fields["title"], key
        assert re.fullmatch(r"\d{4}\.\d{4,5}", work.fields.get("eprint", "0000.0000")), key


def test_minutes_and_run_time(tmp_path):
    assert (minutes(0, 0), minutes(2000, 0), minutes(2000, 4)) == (1, 10, 12)
    (tmp_path / "a.ipynb").write_text(json.dumps({"metadata": {}}))
    assert run_seconds(tmp_path / "a.ipynb") is run_seconds(tmp_path / "a.md") is None
