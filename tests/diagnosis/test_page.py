"""The page: all parts, nothing beside it, names and answers escaped, clean modules folded, phone and desk."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from made_up import MADE, broken, examples, measured, stored, verdict

from quantcliff.diagnosis import chapters
from quantcliff.diagnosis.page import page

NASTY = "<b>{{ 7*7 }}</b> & {% raw %} </script>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Seen(HTMLParser):
    """Tags by name, text outside of scripts, and how many table rows stand inside and outside of <details>."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.text, self.inside, self.rows = "", [], {True: 0, False: 0}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.inside.append(tag)
        if tag == "tr":
            self.rows["details" in self.inside] += 1

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.text += data


def made(found=None, weights=None, said=None, about="m beside a base", how=MADE) -> str:
    return page(found or verdict(), measured(), stored() if weights is None else weights,
                examples() if said is None else said, about, how)  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> str:
    return made()


def test_every_part_is_there_and_closed(whole):
    seen = Seen(whole)
    assert seen.inside == []
    text = " ".join(seen.text.split())
    for words in (
        "Checked and found clean: 56 of 56 modules.", "The cheapest step that helps: all layers in 3 bits",
        "The capital of Italy is", "the the (wrong)", "four ↵ four (right)", "(nothing)", "Does it form? (decides)",
        "0.59 to 0.73, n = 88", "The former rule says mixed", "2026-11-27 02:30 UTC", "quantcliff 0.1.0, Python 3.11.9",
        "a base, hash 0123456789abcdef", "fedcba9876543210", MADE["command"], "on cpu in float32",
    ):  # fmt: skip
        assert words in text, words
    assert not re.search(r"\b(nan|NaN|None|<NA>)\b", text)
    assert text.index("found clean") < text.index("What to do") < text.index("The weights")


def test_it_needs_nothing_beside_it(whole):
    assert whole.startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)\s*=|url\(|@import""", whole.split("<script>")[0])


def test_chapters_are_named_and_linked_only_where_the_site_has_an_address(whole, tmp_path, monkeypatch):
    assert "<i>Patching: where does the answer get lost?</i>" in whole
    (tmp_path / "_config.yml").write_text("html:\n  baseurl: https://books.example/cliff/\n")
    monkeypatch.chdir(tmp_path)
    link = '<a href="https://books.example/cliff/book/patching.html">Patching: where does the answer get lost?</a>'
    assert link in made()
    (tmp_path / "_config.yml").write_text("html:\n  baseurl: 'javascript:alert(1)'\n")
    assert chapters.address() == ""
    for text in ("", "- a\n- b", "html: [", "html:\n  baseurl:\n", "html: no"):
        (tmp_path / "_config.yml").write_text(text)
        assert chapters.address() == ""


def test_rows_of_clean_modules_are_folded_and_those_of_faulty_ones_open():
    none = Seen(made(weights=stored(0, 4)))
    some = Seen(made(weights=stored(2, 4)))
    assert none.rows[True] == 5 and some.rows[True] == 5
    assert some.rows[False] - none.rows[False] == 3
    assert "<details open" not in made(weights=stored(2, 4))
    all_bad = made(weights=stored(3, 0))
    assert "clean modules" not in all_bad


def test_names_sentences_and_answers_are_escaped():
    found = broken(f"layer 1: {NASTY}")
    text = made(found, about=NASTY, said=examples(NASTY, NASTY), how=MADE | {"command": NASTY, "base": NASTY})
    body = text.split("<script>")[0]
    assert "<b>{{" not in body and "<b>49" not in text
    assert body.count("&lt;b&gt;{{ 7*7 }}&lt;/b&gt; &amp; {% raw %} &lt;/script&gt;") >= 6
    assert Seen(text).inside == []
    nasty = stored(1, 0).assign(detail=NASTY, module=NASTY)
    (spec,) = re.findall(r'id="spec3">(.*?)</script>', made(weights=nasty), re.DOTALL)
    assert NASTY in json.loads(spec)["description"]


def test_charts_show_signals_only(whole):
    specs = re.findall(r'<script type="application/json" id="spec\d">(.*?)</script>', whole, re.DOTALL)
    assert len(specs) == 3
    assert "alone" not in specs[1] and "Jaccard" in json.loads(specs[1])["description"]


def test_a_file_that_alone_was_looked_at_leaves_out_the_rest():
    text = made(broken(), said=examples()[:0])
    shown = Seen(text).text
    for part in ("What it says", "the questions of cause", "Where it shows", "The signals"):
        assert part not in shown
    assert "32 of 32 groups have the wrong scale" in shown and "layer 2: odd" in shown
    assert text.count('class="chart"') == 1


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_it_is_no_wider_than_a_phone_and_says_nothing_on_the_console(whole, tmp_path):
    file = tmp_path / "page.html"
    measure = "<script>setTimeout(() => document.title = 'wide ' + document.body.scrollWidth, 3000)</script>"
    file.write_text(whole + measure)
    frame = tmp_path / "frame.html"
    frame.write_text('<iframe src="page.html" width="360" height="800" id="f"></iframe><script>setInterval(() => '
                     "document.title = document.getElementById('f').contentDocument.title, 500)</script>")  # fmt: skip
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=60000",
             "--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND",
             f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]  # fmt: skip
    done = subprocess.run([CHROMIUM, *flags, frame.as_uri()], capture_output=True, text=True, check=True, timeout=200)
    assert "CONSOLE" not in done.stderr
    (wide,) = re.findall(r"<title>wide (\d+)</title>", done.stdout)
    assert int(wide) <= 360
