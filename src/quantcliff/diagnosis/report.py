"""A verdict in words, for the terminal and as JSON."""

import json
import math
from typing import Any

import pandas as pd

from quantcliff.diagnosis.advice import advice, helps
from quantcliff.stages.verdict import Verdict
from quantcliff.stages.verdict.signals import COLLAPSED, DEGRADED, NOTHING

MEANING = {
    "intact": "Nearly every answer survives; there is nothing to repair.",
    "signal degradation": "Answers still form, and the network carries clean input: the computation keeps its pattern "
    "and loses precision.",
    "computation collapse": "Answers no longer form, and clean input does not bring them back: the computation does "
    "not happen.",
    "mixed": "Of the two questions that decide, one speaks against a repair and the other could not be asked.",
    "format bug": "The model is stored wrongly; rounding cannot explain it. Convert or quantize it again.",
    "not made from this base": "What differs is not quantization alone: this base is not what was quantized.",
    "not all measured": "What was measured is intact, and something that is quantized too was not measured.",
}
"""Mode, or finding beside it -> what it says. What to do about it says `advice`."""


MIXED = {
    ("no", "yes"): "Answers no longer form, but the last layer still carries clean input: the loss adds up on the way.",
    ("yes", "no"): "Answers still form, but not even the last layer carries clean input: the damage sits at the end.",
}
"""Answers to *forms* and *responds* -> what a mixed verdict says."""


def meaning(verdict: Verdict) -> str:
    """What the headline means; with a finding beside the mode, both."""
    own = MEANING[verdict.mode]
    if verdict.mode == "mixed":
        given = dict(zip(verdict.questions["question"], verdict.questions["answer"], strict=True))
        own = MIXED.get((given.get("forms", ""), given.get("responds", "")), own)
    beside = verdict.headline.split(", ")[0]
    return own if beside == verdict.mode else f"{MEANING[beside]} As it is now: {own[0].lower()}{own[1:]}"


def summary(verdict: Verdict) -> str:
    """A few sentences: the mode, what was found in the files, the answers kept, the questions, what to do."""
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
        lines.append(kept(verdict))
        lines += [f"{row.asks} {_answered(row)}." for row in verdict.questions.itertuples()]
    if told := advice(verdict):
        lines += ["What to do:", *(f"- {sentence}" for sentence in told)]
    return "\n".join(lines)


def kept(verdict: Verdict) -> str:
    """The share of answers kept, in a sentence."""
    return (
        f"It keeps {verdict.kept:.1%} of the {verdict.n_known:,} answers that full precision gets right (95% interval "
        f"{verdict.kept_low:.1%} to {verdict.kept_high:.1%})."
    )


def former(verdict: Verdict) -> str:
    """What the rule of votes says, in a sentence or two."""
    collapsed, votes = verdict.former.votes
    against = f"; outvoted: {', '.join(verdict.former.dissent)}" if verdict.former.dissent else ""
    mode = verdict.former.mode
    return f"The former rule says {mode}: {collapsed} of the {votes} signals that apply read collapsed{against}."


def _answered(row: Any) -> str:
    if row.answer == "not asked":
        return f"Not asked, {row.note}"
    sure = "" if row.sure else ", not sure"
    return f"{row.answer[0].upper()}{row.answer[1:]}{sure} ({row.value:.2f}, held to {row.held_to:.2f}; {row.note})"


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
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3f}"


def ladder(verdict: Verdict) -> pd.DataFrame:
    """The next steps as text: step, bits per weight, kept, 95% interval, whether that is more than as it is, note."""
    steps = verdict.ladder
    if steps.empty:
        return pd.DataFrame(columns=["step", "bits", "kept", "95% interval", "helps", "note"])
    words = ["", *("yes" if good else "no" for good in helps(steps)[1:])]
    return pd.DataFrame(
        {
            "step": steps["step"],
            "bits": steps["bits"].map("{:.2f}".format),
            "kept": steps["kept"].map("{:.0%}".format),
            "95% interval": [f"{low:.0%} to {high:.0%}" for low, high in zip(steps["low"], steps["high"], strict=True)],
            "helps": words,
            "note": steps["note"],
        }
    )


def text(verdict: Verdict) -> str:
    """`summary`, the next steps, and the evidence as tables for the terminal."""
    parts = [summary(verdict)]
    if len(steps := ladder(verdict)):
        parts.append(f"Next steps, and what they keep\n{_columns(steps)}")
    if len(found := table(verdict)):
        parts.append(f"{_columns(found.drop(columns=['source', 'note']))}\n{former(verdict)}")
    return "\n\n".join(parts)


def _columns(found: pd.DataFrame) -> str:
    """A table whose cells and headings all begin at the left."""
    wide = {name: max(len(name), *found[name].map(len)) for name in found}
    rows = [list(found), *found.to_numpy().tolist()]
    return "\n".join("  ".join(c.ljust(wide[n]) for n, c in zip(found, row, strict=True)).rstrip() for row in rows)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain values; what does not apply is null.

    Returns:
        variant, mode, exit_code; accuracy_kept (estimate, low, high, n); questions (one object each, as
        `questions.answers`); next_steps (step, bits, kept, low, high, n, note, helps); advice (sentences); first_layer
        (by reading); faults, odd, left_out, not_made_from_base, checked (`filecheck.Findings`); signals (one object
        each, with what it is held to, its reading and source); former_rule (mode, collapsed, applicable, outvoted).
        `diagnose` puts about, made (`made`) and examples (`examples`) beside them.
    """
    columns = ["signal", "value", "low", "high", "n", "perfect", "threshold", "severity", "reading", "sure",
               "first_degraded", "first_collapsed", "source", "chosen", "note"]  # fmt: skip
    share = {"estimate": verdict.kept, "low": verdict.kept_low, "high": verdict.kept_high}
    collapsed, applicable = verdict.former.votes
    steps = verdict.ladder
    return {
        "variant": verdict.variant,
        "mode": verdict.mode,
        "exit_code": verdict.exit_code,
        "accuracy_kept": {name: None if math.isnan(value) else value for name, value in share.items()}
        | {"n": verdict.n_known},
        "questions": records(verdict.questions),
        "next_steps": records(steps.assign(helps=helps(steps) if len(steps) else [])),
        "advice": advice(verdict),
        "first_layer": verdict.first,
        "faults": list(verdict.file.faults),
        "odd": list(verdict.file.odd),
        "left_out": list(verdict.file.left_out),
        "not_made_from_base": verdict.file.origin or None,
        "checked": verdict.file.checked,
        "signals": records(verdict.signals[columns]),
        "former_rule": {
            "mode": verdict.former.mode,
            "collapsed": collapsed,
            "applicable": applicable,
            "outvoted": list(verdict.former.dissent),
        },
    }


def records(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; NaN and infinity become null."""
    return json.loads(found.to_json(orient="records"))
