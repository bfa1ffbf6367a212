"""A Sphinx extension for what every page has: the card `{in-brief}`, and links that outlive the page they lead to.

    ```{in-brief}
    :needs: [The cliff, seen from outside](macro)
    :terms: residual stream, logit lens
    - say what a lens reads, ...
    ```

The card names the goals, what to read before, how long reading takes, how long the page's cells ran in this build, and
its terms, each linked to the glossary. A book about another model leaves some pages out; a link to one of them becomes
plain text.
"""

import json
import math
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

WORDS_A_MINUTE = 200
"""Reading speed of technical prose; plain English prose is read at about 240 words a minute."""

CHART_SECONDS = 30
"""Time to look at one chart."""

SKIPPED = (nodes.literal_block, nodes.table, nodes.math, nodes.math_block, nodes.raw, nodes.comment)
"""What is not read as running text."""


class InBrief(SphinxDirective):
    """The card at the head of a chapter; its body is a list of learning goals."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"needs": directives.unchanged, "terms": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Raises a directive error where no goal is given."""
        self.assert_has_content()
        card = nodes.admonition(classes=["in-brief"])
        card += nodes.title("", "In this chapter")
        lines = ["After this chapter you can", "", *self.content, ""]
        if needs := self.options.get("needs", "").strip():
            lines += [f"**Before it:** {' '.join(needs.split())}", ""]
        lines += ["**Time:** TIME", ""]
        if terms := [term.strip() for term in self.options.get("terms", "").split(",") if term.strip()]:
            lines += ["**Terms:** " + ", ".join(f"{{term}}`{term}`" for term in terms), ""]
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, card)
        for text in card.findall(nodes.Text):
            if "TIME" in text and isinstance(text.parent, nodes.paragraph):
                text.parent.replace(text, reading_time(text.astext().replace("TIME", "")))
        return [card]


class reading_time(nodes.Inline, nodes.TextElement):  # noqa: N801
    """Stands for the time that a page takes until the whole page is known."""

    def __init__(self, before: str = "", **attributes: Any) -> None:
        super().__init__("", nodes.Text(before), **attributes)


def words(document: nodes.document) -> int:
    """Words of running text that lie open: no code, tables, formulas, nor anything folded."""
    return sum(len(text.astext().split()) for text in document.findall(nodes.Text) if not _skipped(text))


def _skipped(node: nodes.Node) -> bool:
    while (node := node.parent) is not None:
        if isinstance(node, SKIPPED) or _is_folded(node) or node.get("mime_type", "text/markdown") != "text/markdown":
            return True
    return False


def _is_folded(node: nodes.Element) -> bool:
    return node.get("design_component") == "dropdown" or "dropdown" in node.get("classes", ())


def minutes(words: int, charts: int) -> int:
    """Whole minutes to read so many words and look at so many charts, at least one.

    Example:
        >>> minutes(2000, 6)
        13
    """
    return max(1, round(words / WORDS_A_MINUTE + charts * CHART_SECONDS / 60))


def duration(seconds: float) -> str:
    """A time in words.

    Example:
        >>> duration(0.3), duration(49.8), duration(100.0), duration(4000.0)
        ('1 second', '50 seconds', '2 minutes', '67 minutes')
    """
    number, unit = (math.ceil(seconds), "second") if seconds < 59.5 else (round(seconds / 60), "minute")
    return f"{number} {unit}" + ("" if number == 1 else "s")


def run_seconds(source: Path) -> float | None:
    """How long papermill ran a page's notebook; None where it did not."""
    if source.suffix != ".ipynb":
        return None
    notebook = json.loads(source.read_text(encoding="utf-8"))
    seconds = notebook["metadata"].get("papermill", {}).get("duration")
    return None if seconds is None else float(seconds)


def charts(document: nodes.document) -> int:
    """Charts on a page."""
    return sum(1 for raw in document.findall(nodes.raw) if "altair-viz" in raw.astext())


def _fill_cards(app: Sphinx, document: nodes.document) -> None:
    for card in list(document.findall(reading_time)):
        count, drawn = words(document), charts(document)
        seen = f" and {drawn} chart{'' if drawn == 1 else 's'}" if drawn else ""
        text = f"about {minutes(count, drawn)} minutes to read (some {round(count, -2):,} words{seen})"
        if (seconds := run_seconds(Path(app.env.doc2path(app.env.docname)))) is not None:
            text += f"; its cells ran {duration(seconds)} in this build"
        card.parent.replace(card, nodes.Text(f"{card.astext()}{text}."))


class LinksToPagesLeftOut(SphinxPostTransform):
    """Links to pages that this edition of the book leaves out (`pages_left_out`) become their text."""

    default_priority = 5  # before MyST resolves links, at 9

    def run(self, **options: Any) -> None:
        """Replace each such reference; figures are known by their names, `fig-PAGE-...`."""
        left_out = set(self.config.pages_left_out)
        for link in list(self.document.findall(pending_xref)) if left_out else []:
            target = str(link["reftarget"]).removesuffix(".md").rsplit("/", 1)[-1].split("#")[0]
            if target in left_out or any(target.startswith(f"fig-{page}-") for page in left_out):
                link.replace_self(link.children or nodes.Text(target))


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_config_value("pages_left_out", [], "env", types=[list])
    app.add_directive("in-brief", InBrief)
    app.add_post_transform(LinksToPagesLeftOut)
    app.connect("doctree-read", _fill_cards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
