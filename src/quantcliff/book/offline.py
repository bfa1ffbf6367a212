"""A Sphinx extension that puts what a page loads into the site itself: Vega for the charts, MathJax for formulas.

Altair's charts look for Vega under `VEGA_DEBUG` and ask a content network only where they do not find it. The bundle is
wrapped in a function because its minified top-level names collide with those of the theme.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from quantcliff.charts import vega_bundle

VEGA = "vega-bundle.js"
MATHJAX = "mathjax.js"


def mathjax() -> bytes:
    """MathJax in one script, with its fonts as outlines."""
    return (files("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-svg-full.js").read_bytes()


def _add_assets(app: Sphinx) -> None:
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    (static / VEGA).write_text(vega_bundle(), encoding="utf-8")
    (static / MATHJAX).write_bytes(mathjax())


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_js_file(VEGA, priority=100)
    app.config.mathjax_path = MATHJAX
    app.connect("builder-inited", _add_assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
