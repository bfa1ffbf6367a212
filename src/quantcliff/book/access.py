"""A Sphinx extension for readers who do not see the page: alternative text everywhere, and what a shared link says.

A chart or picture without alternative text is a warning, which fails the build. Each page tells search engines and
whoever shares it what it is about, in its own first sentences.
"""

import html
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

LEAST = 20
"""Characters that alternative text has at least."""

LONGEST = 200
"""Characters of a page's description at most; search engines cut longer ones."""

CHART = re.compile(r'\)\((\{.*\}), \{"mode": "vega-lite"')

logger = logging.getLogger(__name__)


def descriptions(chart: str) -> list[str]:
    """The alternative text of every Altair chart in a piece of HTML; empty for a chart that has none.

    Example:
        >>> descriptions('<div id="altair-viz-1"></div> ...)({"description": "Two lines."}, {"mode": "vega-lite"});')
        ['Two lines.']
    """
    return [str(json.loads(spec).get("description", "")) for spec in CHART.findall(chart)]


def _undescribed(document: nodes.document) -> Iterator[nodes.Node]:
    for raw in document.findall(nodes.raw):
        if "altair-viz" in raw.astext():
            said = descriptions(raw.astext())
            if not said or min(map(len, said)) < LEAST:
                yield raw
    yield from (image for image in document.findall(nodes.image) if len(image.get("alt", "")) < LEAST)


def _check(app: Sphinx, document: nodes.document) -> None:
    for part in _undescribed(document):
        logger.warning("%s: a chart or picture has no alternative text", app.env.docname, location=part, type="alt")


def summary(document: nodes.document) -> str:
    """The first paragraph of a page, cut at a word to `LONGEST` characters; empty where it has none."""
    for paragraph in document.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section):
            return textwrap.shorten(paragraph.astext(), LONGEST, placeholder=" ...")
    return ""


def _tell(app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None) -> None:
    if document is None:
        return
    about = {
        "og:type": "article", "og:site_name": app.config.html_title, "og:title": str(context.get("title", "")),
        "og:description": summary(document), "twitter:card": "summary_large_image",
    }  # fmt: skip
    if app.config.html_baseurl:
        about["og:url"] = str(context["pageurl"])
        about["og:image"] = f"{app.config.html_baseurl.rstrip('/')}/_static/cliff.png"
    tags = [f'<meta name="description" content="{html.escape(about["og:description"])}" />']
    tags += [
        f'<meta property="{name}" content="{html.escape(re.sub("<[^>]*>", "", value))}" />'
        for name, value in about.items()
    ]
    kept = re.sub(r'<meta[^>]*name="viewport"[^>]*>\s*', "", str(context.get("metatags", "")))  # the theme has its own
    context["metatags"] = "\n".join([kept, *tags])


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-read", _check)
    app.connect("html-page-context", _tell)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
