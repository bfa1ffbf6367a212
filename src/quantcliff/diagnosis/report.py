"""A verdict in words: for the terminal, as JSON, and as one HTML page that needs nothing beside it."""

import json
import math
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import pandas as pd

from quantcliff.charts import vega_bundle
from quantcliff.charts import verdict as charts
from quantcliff.stages.verdict import Verdict
from quantcliff.stages.verdict.signals import COLLAPSED, DEGRADED, NOTHING, SIGNALS

MEANING = {
    "intact": "Nearly every answer survives; there is nothing to repair.",
    "signal degradation": "The computation keeps its pattern and loses precision. More bits for a few layers, or a "
    "compensation without training, can bring answers back.",
    "computation collapse": "Components no longer do their work, and repairs without training do not help; use more "
    "bits.",
    "mixed": "Some signals speak for a collapse, others for a loss of precision only; see which, and in which layers.",
    "format bug": "The model is stored wrongly; rounding cannot explain it. Convert or quantize it again.",
    "not made from this base": "What differs is not quantization alone: this base is not what was quantized.",
    "not all measured": "What was measured is intact, and something that is quantized too was not measured.",
}


SHOWN = ("- ", "Odd, harmless:", "Left out:", "Looked at in the files")
"""How lines of the summary begin that the page shows in another form."""


def meaning(verdict: Verdict) -> str:
    """What the headline means; with a finding beside the mode, both."""
    own = MEANING[verdict.mode]
    beside = verdict.headline.split(", ")[0]
    return own if beside == verdict.mode else f"{MEANING[beside]} As it is now: {own[0].lower()}{own[1:]}"


def summary(verdict: Verdict) -> str:
    """A few sentences: the mode, the answers kept, the votes, the layers, the faults."""
    lines = [f"{verdict.variant}: {verdict.headline}. {meaning(verdict)}"]
    file = verdict.file
    if file.checked:
        lines.append(f"Looked at in the files and found clean: {file.checked}.")
    if file.origin:
        lines.append(f"{file.origin[0].upper()}{file.origin[1:]}.")
    for title, sentences in (("", file.faults), ("Odd, harmless:", file.odd), ("Left out:", file.left_out)):
        if sentences:
            lines += [title, *(f"- {sentence}" for sentence in sentences)]
    if verdict.n_known:
        lines.append(
            f"It keeps {verdict.kept:.1%} of the {verdict.n_known:,} answers that full precision gets right (95% "
            f"interval {verdict.kept_low:.1%} to {verdict.kept_high:.1%})."
        )
        lines += [f"{row.asks} {row.answer} ({row.value:.2f})." for row in verdict.questions.itertuples()]
        first = {name: layer for name, layer in verdict.first.items() if layer is not None}
        if first:
            where = ", ".join(f"{name} from layer {layer}" for name, layer in first.items())
            lines.append(f"Half of the signals that tell layers apart read {where} on.")
    return "\n".join(lines)


def table(verdict: Verdict) -> pd.DataFrame:
    """The evidence as text, one row per signal: signal, value, interval, held to, reading, from layer, source."""
    rows = []
    for row in verdict.signals.itertuples():
        there = row.reading != NOTHING
        layers = {name: getattr(row, f"first_{name}") for name in (DEGRADED, COLLAPSED)}
        rows.append(
            {
                "signal": row.signal,
                "value": _number(row.value) if there else "-",
                "95% interval": f"{_number(row.low)} to {_number(row.high)}" if there else "-",
                "held to": _number(row.threshold) if there else "-",
                "reading": row.reading + ("" if row.sure or not there else " (not sure)"),
                "from layer": "; ".join(f"{layer} {name}" for name, layer in layers.items() if not pd.isna(layer)),
                "note": row.note,
                "source": row.source,
            }
        )
    return pd.DataFrame(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3f}"


def text(verdict: Verdict) -> str:
    """`summary`, and the evidence as a table for the terminal."""
    found = table(verdict)
    if found.empty:
        return summary(verdict)
    shown = found.drop(columns=["source", "note"]).to_string(index=False, justify="left")
    return f"{summary(verdict)}\n\n{shown}"


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain values; what does not apply is null."""
    columns = ["signal", "value", "low", "high", "n", "perfect", "threshold", "severity", "reading", "sure",
               "first_degraded", "first_collapsed", "source", "chosen", "note"]  # fmt: skip
    rows = json.loads(verdict.signals[columns].to_json(orient="records"))
    kept = {"estimate": verdict.kept, "low": verdict.kept_low, "high": verdict.kept_high}
    return {
        "variant": verdict.variant,
        "mode": verdict.mode,
        "exit_code": verdict.exit_code,
        "accuracy_kept": {name: None if math.isnan(value) else value for name, value in kept.items()}
        | {"n": verdict.n_known},
        "votes": dict(zip(("collapsed", "applicable"), verdict.former.votes, strict=True)),
        "outvoted": list(verdict.former.dissent),
        "first_layer": verdict.first,
        "faults": list(verdict.file.faults),
        "odd": list(verdict.file.odd),
        "left_out": list(verdict.file.left_out),
        "not_made_from_base": verdict.file.origin or None,
        "checked": verdict.file.checked,
        "signals": rows,
    }


def page(verdict: Verdict, measured: pd.DataFrame, stored: pd.DataFrame, about: str) -> str:
    """One HTML page with charts and tables, everything inside it.

    Args:
        measured, stored: the tables the verdict was made of (`verdict.measure`, `weights.measure`), of this variant.
        about: what was compared with what, in words.
    """
    drawn: list[alt.LayerChart] = []
    if len(verdict.signals):
        drawn += [charts.severities(verdict.signals), charts.by_layer(measured, verdict.variant)]
    drawn.append(charts.modules(stored))
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    bad = stored[stored["fault"] != ""]
    return environment.from_string(template).render(
        verdict=verdict,
        summary=[line for line in summary(verdict).splitlines()[1:] if not line.startswith(SHOWN)],
        meaning=meaning(verdict),
        about=about,
        evidence=table(verdict).to_dict("records"),
        signals=SIGNALS,
        modules=(bad if len(bad) else stored).round(2).to_dict("records"),
        charts=[{"spec": _spec(chart), "words": chart.to_dict()["description"]} for chart in drawn],
        bundle=vega_bundle().replace("</script", "<\\/script"),
    )


def _spec(chart: alt.LayerChart) -> str:
    return json.dumps(chart.to_dict()).replace("</", "<\\/")
