"""What is wrong with a quantized model: the signals added up to one verdict, and beside it what is stored wrongly.

The rule, in this order:

1. *intact*: at least 99% of full precision's right answers are kept.
2. Otherwise every signal that applies has one vote, for collapse if it reads "collapsed", against it if it reads
   "degraded" or "intact". Two thirds of the votes decide between *computation collapse* and *signal degradation*; with
   less it is *mixed*. Signals that were outvoted are named; of a mixed verdict those of the smaller side.

A *format bug*, weights that rounding cannot explain and that do harm (`weights`), is a finding beside the mode, not in
its place: the finding may be wrong, and the rest is worth knowing.

The two modes are those of arXiv 2604.19884; the rule is *chosen*. Thresholds stand in `signals`.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from quantcliff.filecheck import Findings, faulty, harmless
from quantcliff.stages import components
from quantcliff.stages.verdict.evidence import COLUMNS, Pair, gather
from quantcliff.stages.verdict.signals import COLLAPSED, DEGRADED, INTACT, KEPT, NOTHING, SIGNALS, read
from quantcliff.study import FULL, Study

MAJORITY = 2 / 3

EXIT_CODES = {"intact": 0, "signal degradation": 10, "computation collapse": 11, "mixed": 12, "format bug": 13,
              "not made from this base": 14, "not all measured": 15}  # fmt: skip
"""Modes, and what `quantcliff diagnose` exits with. The last three are findings of the file check and stand beside a
mode, whichever it is, the first of them that holds: faults, another base, or an intact model of which something that is
quantized was left out. They are the mode itself where nothing else was measured."""

N_PROMPTS = 100

NO_SIGNALS = pd.DataFrame(columns=[*COLUMNS, "severity", "reading", "sure"])
"""Of a model of which nothing but its weights was looked at."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on one quantized model.

    Attributes:
        variant: its label.
        mode: a key of `EXIT_CODES`.
        kept: share of full precision's right answers that survive; `kept_low`, `kept_high` (95%, Wilson), of
            `n_known`. NaN where it was not asked.
        votes: signals that read collapsed, and signals that apply.
        dissent: names of the outvoted ones.
        first: layers in which degradation and collapse show first; None where they show in no layer.
        file: what the file check found.
        signals: one row per signal: the columns of `evidence.gather` without layer, and severity, reading,
            sure, first_degraded, first_collapsed (layers), source, chosen.
    """

    variant: str
    mode: str
    kept: float
    kept_low: float
    kept_high: float
    n_known: int
    votes: tuple[int, int]
    dissent: tuple[str, ...]
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
    def _beside(self) -> list[str]:
        held = {
            "format bug": self.file.faults,
            "not made from this base": self.file.origin,
            "not all measured": self.file.left_out and self.mode == "intact",
        }
        return [name for name, holds in held.items() if holds]


CLEAN = Findings()


def measure(study: Study, n_prompts: int = N_PROMPTS) -> pd.DataFrame:
    """All signals of every variant, as a whole and by layer -> RUN/verdict.parquet.

    Args:
        n_prompts: see `evidence.Pair`.

    Returns:
        variant, method, bits, group_size; the columns of `evidence.gather`; severity, reading, sure (`signals.read`).
    """
    full = functools.cache(lambda: components.of_variant(study, FULL, n_prompts))
    return study.table("verdict", lambda label: read(gather(Pair(study, label, n_prompts, full))), n_prompts=n_prompts)


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
        rows: signal, layer, value, low, high, n, severity, reading and more, as `measure` makes them, or `NO_SIGNALS`.
        file: what the file check found.
    """
    whole, layers = rows[rows["layer"].isna()], rows[rows["layer"].notna()]
    kept = whole[whole["signal"] == KEPT]
    signals = _with_first(whole[whole["signal"] != KEPT], layers)
    voting = signals[signals["reading"] != NOTHING]
    collapsed = voting["reading"] == COLLAPSED
    share = float(collapsed.mean()) if len(voting) else 0.0
    if rows.empty:
        mode = "not made from this base" if file.origin and not file.faults else "format bug"
    elif (kept["reading"] == INTACT).all():
        mode = "intact"
    elif share >= MAJORITY:
        mode = "computation collapse"
    elif 1 - share >= MAJORITY:
        mode = "signal degradation"
    else:
        mode = "mixed"
    minority = collapsed if share < 0.5 or mode in ("intact", "format bug") else ~collapsed
    value, low, high, n = kept[["value", "low", "high", "n"]].iloc[0] if len(kept) else (np.nan, np.nan, np.nan, 0)
    return Verdict(
        variant, mode, float(value), float(low), float(high), int(n), (int(collapsed.sum()), len(voting)),
        tuple(voting.loc[minority, "signal"]), first_layers(layers), file, signals,
    )  # fmt: skip


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
