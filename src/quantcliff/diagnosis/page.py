"""A verdict as one HTML page that needs nothing beside it, and no network."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import pandas as pd

from quantcliff.charts import palette, vega_bundle
from quantcliff.charts import verdict as charts
from quantcliff.diagnosis import chapters, report
from quantcliff.diagnosis.advice import advice
from quantcliff.stages.verdict import Verdict
from quantcliff.stages.verdict.signals import SIGNALS

WEIGHTS = ["layer", "module", "groups", "excess", "match", "stretch", "shift", "fault", "detail"]
"""Columns of the weights' table that are shown."""


def page(
    verdict: Verdict,
    measured: pd.DataFrame,
    stored: pd.DataFrame,
    examples: pd.DataFrame,
    about: str,
    made: Mapping[str, Any],
) -> str:
    """The page: what was found clean, the verdict, examples, questions, what to do, and all evidence with its charts.

    Args:
        measured, stored: the tables the verdict was made of (`verdict.measure`, `weights.measure`), of this variant.
        examples: from `examples.examples`; may be empty.
        about: what was compared with what, in words.
        made: from `made.made`.
    """
    drawn: list[alt.LayerChart] = []
    if len(verdict.signals):
        drawn += [charts.severities(verdict.signals), charts.by_layer(measured, verdict.variant)]
    drawn.append(charts.modules(stored))
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["said"] = _said
    wrong = stored["fault"] != ""
    bad, clean = (stored.loc[rows, WEIGHTS].round(2).to_dict("records") for rows in (wrong, ~wrong))
    return environment.from_string(template).render(
        verdict=verdict,
        color=palette.color(verdict.headline.split(", ")[0]) or palette.NOTHING,
        meaning=report.meaning(verdict),
        kept=report.kept(verdict) if verdict.n_known else "",
        former=report.former(verdict),
        about=about,
        made=made,
        advice=advice(verdict),
        examples=examples.to_dict("records"),
        questions=verdict.questions.to_dict("records"),
        steps=[
            shown | {"share": share}
            for shown, share in zip(report.ladder(verdict).to_dict("records"), verdict.ladder["kept"], strict=True)
        ],
        evidence=report.table(verdict).to_dict("records"),
        signals=SIGNALS,
        columns=WEIGHTS,
        bad=bad,
        clean=clean,
        chapter=partial(chapters.chapter_of, site=chapters.address()),
        charts=[{"spec": _spec(chart), "words": chart.to_dict()["description"]} for chart in drawn],
        bundle=vega_bundle().replace("</script", "<\\/script"),
    )


def _said(words: str) -> str:
    """A model's words in one line, blanks at their ends left out."""
    return words.strip().replace("\n", " \u21b5 ") or "(nothing)"


def _spec(chart: alt.LayerChart) -> str:
    return json.dumps(chart.to_dict()).replace("</", "<\\/")
