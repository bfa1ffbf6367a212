"""What is wrong with a quantized model: questions of cause, the mode that follows, and what is stored wrongly.

The rule, in this order:

1. *intact*: at least 99% of full precision's right answers are kept.
2. Otherwise two questions decide (`questions`): does the answer still form, and does the network respond to clean
   input? Both yes: *signal degradation*. Both no: *computation collapse*. One of each: *mixed*, and which of the two it
   is that failed is the finding.

The other questions say where the damage sits and what helps. Signals inside the network (`signals`) explain where and
how, layer by layer; they do not vote. What the former rule of votes says stands beside (`votes`).

A *format bug*, weights that rounding cannot explain and that do harm (`weights`), is a finding beside the mode, not in
its place: the finding may be wrong, and the rest is worth knowing.

The two modes are those of arXiv 2604.19884; the rule is *chosen*.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from quantcliff.filecheck import Findings, faulty, harmless
from quantcliff.stages import components
from quantcliff.stages.verdict import causes, evidence, ladder, questions, votes
from quantcliff.stages.verdict.pair import Pair
from quantcliff.stages.verdict.signals import COLLAPSED, DEGRADED, INTACT, KEPT, NOTHING, SIGNALS, read
from quantcliff.study import FULL, Study

EXIT_CODES = {"intact": 0, "signal degradation": 10, "computation collapse": 11, "mixed": 12, "format bug": 13,
              "not made from this base": 14, "not all measured": 15}  # fmt: skip
"""Modes, and what `quantcliff diagnose` exits with. The last three are findings of the file check and stand beside a
mode, whichever it is, the first of them that holds: faults, another base, or an intact model of which something that is
quantized was left out. They are the mode itself where nothing else was measured."""

N_PROMPTS = 100

SIGNAL, QUESTION, STEP = KINDS = ("signal", "question", "step")
"""Kinds of row in the verdict's table."""

COLUMNS = ["kind", *evidence.COLUMNS, "control", "average_bits", "severity", "least", "most", "reading", "sure"]

NUMBERS = ["value", "low", "high", "perfect", "threshold", "control", "average_bits", "severity", "least", "most"]

NO_SIGNALS = pd.DataFrame(columns=COLUMNS)
"""Of a model of which nothing but its weights was looked at."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on one quantized model.

    Attributes:
        variant: its label.
        mode: a key of `EXIT_CODES`.
        kept: share of full precision's right answers that survive; `kept_low`, `kept_high` (95%, Wilson), of
            `n_known`. NaN where it was not asked.
        questions: from `questions.answers`.
        ladder: step, bits (average bits per weight then), kept, low, high, n, note; empty for an intact model.
        former: what the rule of votes says.
        first: layers in which degradation and collapse show first; None where they show in no layer.
        file: what the file check found.
        signals: one row per signal: the columns of `evidence.gather` without layer, and severity, least, most, reading,
            sure, first_degraded, first_collapsed (layers), source, chosen.
    """

    variant: str
    mode: str
    kept: float
    kept_low: float
    kept_high: float
    n_known: int
    questions: pd.DataFrame
    ladder: pd.DataFrame
    former: votes.Votes
    first: dict[str, int | None]
    file: Findings
    signals: pd.DataFrame

    @property
    def headline(self) -> str:
        """The mode, findings of the file check in front of it."""
        return ", ".join(dict.fromkeys([*self._beside, self.mode]))

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[next(iter(self._beside), self.mode)]

    @property
    def sure(self) -> bool:
        """Whether every answer that decides is the same at both ends of its interval."""
        return bool(self.questions.loc[self.questions["decides"].astype(bool), "sure"].all())

    @property
    def _beside(self) -> list[str]:
        held = {
            "format bug": self.file.faults,
            "not made from this base": self.file.origin,
            "not all measured": self.file.left_out and self.mode == "intact",
        }
        return [name for name, holds in held.items() if holds]


CLEAN = Findings()


def measure(study: Study, n_prompts: int = N_PROMPTS) -> pd.DataFrame:
    """All signals, questions and steps of every variant, as a whole and by layer -> RUN/verdict.parquet.

    Args:
        n_prompts: see `Pair`.

    Returns:
        variant, method, bits, group_size; kind (one of `KINDS`), signal (its name, the question's, or the step in
        words) and the other columns of `COLUMNS`, missing where a kind has none.
    """
    full = functools.cache(lambda: components.of_variant(study, FULL, n_prompts))
    return study.table("verdict", lambda label: _table(Pair(study, label, n_prompts, full)), n_prompts=n_prompts)


def _table(pair: Pair) -> pd.DataFrame:
    signals = read(evidence.gather(pair))
    parts = {SIGNAL: signals, QUESTION: causes.ask(pair)}
    if signals.loc[signals["signal"] == KEPT, "reading"].item() != INTACT:
        by_itself = parts[QUESTION].query("signal == 'alone' and layer.notna()").sort_values("value", kind="stable")
        parts[STEP] = ladder.steps(pair, by_itself["layer"].tolist())
    return joined(parts)


def joined(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of all kinds (a key of `parts` each) in one table, with the columns of `measure`."""
    rows = [part.assign(kind=kind).reindex(columns=COLUMNS) for kind, part in parts.items() if len(part)]
    return pd.concat([part.astype(dict.fromkeys(NUMBERS, float)) for part in rows], ignore_index=True)


def verdicts(table: pd.DataFrame, stored: pd.DataFrame) -> dict[str, Verdict]:
    """The verdict on every variant.

    Args:
        table: from `measure`.
        stored: from `weights.measure`.
    """
    found = dict(iter(stored.groupby("variant", sort=False)))
    return {
        str(label): decide(str(label), rows, Findings(tuple(faulty(found[label])), tuple(harmless(found[label]))))
        for label, rows in table.groupby("variant", sort=False)
    }


def decide(variant: str, rows: pd.DataFrame, file: Findings = CLEAN) -> Verdict:
    """The rule of this module for one variant.

    Args:
        rows: as `measure` makes them, or `NO_SIGNALS`.
        file: what the file check found.
    """
    seen = {kind: rows[rows["kind"] == kind] for kind in KINDS}
    whole, layers = (seen[SIGNAL][there] for there in (seen[SIGNAL]["layer"].isna(), seen[SIGNAL]["layer"].notna()))
    kept = whole[whole["signal"] == KEPT]
    signals = _with_first(whole[whole["signal"] != KEPT], layers)
    answered = questions.answers(seen[QUESTION])
    intact = bool((kept["reading"] == INTACT).all())
    if rows.empty:
        mode = "not made from this base" if file.origin and not file.faults else "format bug"
    else:
        mode = "intact" if intact else questions.mode_of(answered)
    value, low, high, n = kept[["value", "low", "high", "n"]].iloc[0] if len(kept) else (np.nan, np.nan, np.nan, 0)
    return Verdict(
        variant, mode, float(value), float(low), float(high), int(n), answered, _steps(seen[STEP]),
        votes.count(signals, intact), first_layers(layers), file, signals,
    )  # fmt: skip


def _steps(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows[["signal", "average_bits", "value", "low", "high", "n", "note"]].reset_index(drop=True)
    return shown.rename(columns={"signal": "step", "average_bits": "bits", "value": "kept"})


def first_layers(layers: pd.DataFrame) -> dict[str, int | None]:
    """First layer in which at least half of the signals that speak about layers read degraded or worse; collapsed.

    Patching and repair do not speak about the layer they are made in, and do not count.
    """
    about = layers[layers["signal"].isin([signal.name for signal in SIGNALS if signal.layered])]
    about = about[about["reading"] != NOTHING]
    found = {}
    for name, readings in ((DEGRADED, (DEGRADED, COLLAPSED)), (COLLAPSED, (COLLAPSED,))):
        share = about["reading"].isin(readings).groupby(about["layer"]).mean()
        there = share.index[share >= 0.5]
        found[name] = int(there.min()) if len(there) else None
    return found


def _with_first(signals: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Signals with the first layer in which each reads degraded or worse, and collapsed, and with its source."""
    kinds = {signal.name: signal for signal in SIGNALS}
    columns: dict[str, list] = {"first_degraded": [], "first_collapsed": [], "source": [], "chosen": []}
    for name in signals["signal"]:
        own = layers[layers["signal"] == name]
        for column, readings in (("first_degraded", (DEGRADED, COLLAPSED)), ("first_collapsed", (COLLAPSED,))):
            there = own.loc[own["reading"].isin(readings), "layer"] if kinds[name].layered else own["layer"][:0]
            columns[column].append(int(there.min()) if len(there) else pd.NA)
        columns["source"].append(kinds[name].source)
        columns["chosen"].append(kinds[name].chosen)
    for column in ("first_degraded", "first_collapsed"):
        columns[column] = pd.array(columns[column], dtype="Int64")  # type: ignore[assignment]
    return signals.drop(columns="layer").assign(**columns)
