"""The former rule, by votes, kept to be shown beside the new one: every signal that applies has one vote.

For collapse if it reads "collapsed", against it if it reads "degraded" or "intact"; two thirds of the votes decide. It
followed depth, since signals are means over layers, and several votes are cast by one and the same FFN; error alignment
voted the same for every model.
"""

from dataclasses import dataclass

import pandas as pd

from quantcliff.stages.verdict.signals import COLLAPSED, NOTHING

MAJORITY = 2 / 3


@dataclass(frozen=True)
class Votes:
    """mode by votes; votes: signals that read collapsed, and signals that apply; dissent: the smaller side's names."""

    mode: str
    votes: tuple[int, int]
    dissent: tuple[str, ...]


def count(signals: pd.DataFrame, intact: bool) -> Votes:
    """What the former rule says.

    Args:
        signals: one row per signal: signal, reading.
        intact: whether nearly all answers are kept, which decided before any vote.
    """
    voting = signals[signals["reading"] != NOTHING]
    collapsed = voting["reading"] == COLLAPSED
    share = float(collapsed.mean()) if len(voting) else 0.0
    if intact:
        mode = "intact"
    elif share >= MAJORITY:
        mode = "computation collapse"
    elif 1 - share >= MAJORITY:
        mode = "signal degradation"
    else:
        mode = "mixed"
    minority = collapsed if share < 0.5 or intact else ~collapsed
    return Votes(mode, (int(collapsed.sum()), len(voting)), tuple(voting.loc[minority, "signal"]))
