"""The signals of a verdict, and what each is held to.

Two values give a signal a meaning: `perfect`, what a model without damage shows, and `threshold`, from where on it
counts as failed. Thresholds are those of arXiv 2604.19884 where it gives a number. Where it only describes its two
modes, the threshold is *chosen*, always by one principle: half-way between the two. None was fitted to any model.

How far a value has gone from the one to the other is its *severity*, 0 at `perfect` and 1 at `threshold`. A signal
reads "intact" up to a severity of a tenth (chosen), "collapsed" from 1 on, "degraded" between.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

RANK_SHARE = 1000 / 128_000
"""Share of the vocabulary at which a median rank counts as collapsed: "thousands" of Llama's 128,000."""

PAPER = "arXiv 2604.19884"


@dataclass(frozen=True)
class Signal:
    """One kind of evidence and the standard it is held to.

    `perfect` and `threshold` are None where they depend on the model; the rows then carry their own. `layered`: what
    it shows in a layer is about that layer. `logarithmic`: severity goes by the logarithm. `two_sided`: moving away
    from `perfect` on the other side is damage too, but never a collapse.
    """

    name: str
    meaning: str
    perfect: float | None
    threshold: float | None
    source: str
    chosen: bool
    layered: bool = True
    logarithmic: bool = False
    two_sided: bool = False


SIGNALS = (
    Signal(
        "answer rank", "median rank of the lost answers", 1.0, None,
        f"{PAPER}, macro: at 2 bits ranks in the thousands of 128,000", False, layered=False, logarithmic=True,
    ),
    Signal(
        "lens signal", "share of full precision's lens signal that is left", 1.0, 0.5,
        f"chosen: half; {PAPER}, logit lens: weakened at 4 bits, near zero at 2", True,
    ),
    Signal(
        "patching recovery", "share of the lost probability that returns if the upper half gets clean input", 1.0, 0.5,
        f"chosen: half; {PAPER}, patching: 4 bits recovers, 2 bits does not respond", True, layered=False,
    ),
    Signal(
        "attention entropy", "normalised entropy of attention in the middle layers", None, 0.8,
        f"{PAPER}, attention: above 0.80 at 2 bits", False, two_sided=True,
    ),
    Signal(
        "sign flips", "share of FFN gates with the wrong sign", 0.0, 0.3,
        f"{PAPER}, FFN: above 30% is severe", False,
    ),
    Signal(
        "Jaccard", "overlap of the 1% most active neurons", 1.0, 0.1,
        f"{PAPER}, FFN: about 0.1 is misaligned", False,
    ),
    Signal(
        "FFN cosine", "cosine of the FFN's output", 1.0, 0.5,
        f"chosen: half-way to 0, at which {PAPER}, FFN, says meaning is lost", True,
    ),
    Signal(
        "CKA diagonal", "debiased CKA of each layer with itself", 1.0, 0.5,
        f"chosen: half; {PAPER}, CKA: a clear diagonal at 4 bits, dark at 2", True,
    ),
    Signal(
        "subspace", "overlap of the top activation directions", 1.0, 0.4,
        f"chosen: half-way between 0.8 at 4 bits and 0 at 2 ({PAPER}, subspaces)", True,
    ),
    Signal(
        "error alignment", "share of the error in the signal's top directions", None, 0.55,
        f"chosen: half-way between 0.3 at 4 bits and 0.8 at 2 ({PAPER}, error)", True,
    ),
    Signal(
        "repair gain", "share of the lost answers that return if the first layers are in full precision", 1.0, 0.34,
        f"chosen: half-way between 68% at 4 bits (Llama, protection) and none at 2 ({PAPER}, repair)", True,
        layered=False,
    ),
)  # fmt: skip

KEPT = "accuracy kept"
"""Name of the row that is no signal: the share of full precision's right answers that survive."""

INTACT = "intact"
DEGRADED = "degraded"
COLLAPSED = "collapsed"
NOTHING = "not applicable"
READINGS = (INTACT, DEGRADED, COLLAPSED, NOTHING)

INTACT_UP_TO = 0.1
"""Severity up to which a signal reads intact."""

BEST_KEPT = 0.99
"""A model that keeps this share of the right answers is intact, whatever its signals say (chosen)."""


def severity(table: pd.DataFrame, column: str = "value") -> pd.Series:
    """How far each value has gone from `perfect` (0) to `threshold` (1), never below 0; NaN where there is no value.

    Args:
        table: columns signal, perfect, threshold, and `column`; the row `KEPT` has none.
    """
    kinds = {signal.name: signal for signal in SIGNALS}
    found = []
    for name, value, perfect, threshold in table[["signal", column, "perfect", "threshold"]].itertuples(index=False):
        if name not in kinds or pd.isna(value):
            found.append(np.nan)
            continue
        if kinds[name].logarithmic:
            value, perfect, threshold = np.log([value, perfect, threshold])
        way = (value - perfect) / (threshold - perfect)
        found.append(min(-way, 1 - 1e-9) if kinds[name].two_sided and way < 0 else max(way, 0.0))
    return pd.Series(found, index=table.index, dtype=float)


def reading(way: pd.Series) -> pd.Series:
    """What severities say: one of `READINGS` each."""
    words = np.select([way.isna(), way >= 1, way > INTACT_UP_TO], [NOTHING, COLLAPSED, DEGRADED], INTACT)
    return pd.Series(words, index=way.index, dtype=object)


def read(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns severity, its bounds least and most, reading, and sure: whether both bounds read the
    same.

    The row `KEPT` has no severity; it reads intact from `BEST_KEPT` on, else degraded.
    """
    way = severity(table)
    found = reading(way)
    kept = table["signal"] == KEPT
    found[kept] = np.where(table.loc[kept, "value"] >= BEST_KEPT, INTACT, DEGRADED)
    least, most = bounds(table)
    sure = (reading(least) == found) & (reading(most) == found)
    sure[kept] = (table.loc[kept, "low"] >= BEST_KEPT) == (table.loc[kept, "high"] >= BEST_KEPT)
    return table.assign(severity=way, least=least, most=most, reading=found, sure=sure)


def bounds(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Least and greatest severity of each value's interval; where `perfect` lies inside it, the least is 0."""
    middle, low, high = (severity(table, column) for column in ("value", "low", "high"))
    least, most = (pd.concat([middle, low, high], axis=1).agg(way, axis=1) for way in ("min", "max"))
    inside = (table["low"] <= table["perfect"]) & (table["perfect"] <= table["high"]) & middle.notna()
    return least.mask(inside, 0.0), most
