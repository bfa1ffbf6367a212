"""Charts in a row, as many side by side as the column is wide, one below the other on a phone.

Vega-Lite's own facets have fixed widths; here every chart stretches with its share of the column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt


@dataclass(frozen=True)
class Row:
    """Shown by a notebook as one picture of several charts, each with its own alternative text.

    Attributes:
        charts: from `finish`, single views, which stretch.
        least: pixels that a chart gets at least; with fewer for each, the row breaks.
    """

    charts: Sequence[alt.Chart | alt.LayerChart]
    least: int = 220

    def _repr_html_(self) -> str:
        columns = f"repeat(auto-fit, minmax(min({self.least}px, 100%), 1fr))"
        cells = "".join(f'<div style="min-width: 0">{_html(chart)}</div>' for chart in self.charts)
        return f'<div style="display: grid; gap: 0 1rem; grid-template-columns: {columns}">{cells}</div>'


def _html(chart: alt.Chart | alt.LayerChart) -> str:
    with alt.renderers.enable("html"):
        return str(chart._repr_mimebundle_()["text/html"])
