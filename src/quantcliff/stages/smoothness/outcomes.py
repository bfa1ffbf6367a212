"""What became of the rules: a row for every claim, with its outcome and its figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from quantcliff.stages.smoothness import beyond, principle
from quantcliff.stages.smoothness.inputs import NEAR, RANDOM, STANDARD, Sizes
from quantcliff.stages.smoothness.measures import MATCHED, PLAIN
from quantcliff.stages.smoothness.rules import NAMED, RADIUS
from quantcliff.stages.smoothness.seen import INSIDE
from quantcliff.study import FULL

HOLDS, NOT, OPEN = "holds", "holds not", "cannot be told here"
CUT = 0.9
"""Share of the most that is counted from which on a measure is cut off (added after the rules: SmolLM2's trees)."""

COLUMNS = ["claim", "outcome", "figures"]

PUBLISHED = {
    "WikiText-2, perplexity": "9.25", "C4, perplexity": "10.87", "PIQA": "71.71", "WinoGrande": "58.17",
    "BoolQ": "62.05", "OpenBookQA": "34.2", "ARC-challenge": "32.59",
}  # fmt: skip
"""The paper's figures as a listing of results (wizwand.com) has them, percent where not said otherwise."""


@dataclass(frozen=True, eq=False)
class Told:
    """`measure`'s table, asked by method and bits; `methods` and `bits` (most first) are those that rules look at."""

    table: pd.DataFrame
    methods: Sequence[str] = ("gptq", "awq", "rtn")
    bits: Sequence[int] = (8, 4, 3, 2)
    sizes: Sizes = STANDARD

    @property
    def low(self) -> Sequence[int]:
        """Widths that claims of a loss are about: 3 and 2 bits, or the lowest there is."""
        return [bits for bits in self.bits if bits <= 3] or [min(self.bits)]

    def cut(self, measure: str) -> bool:
        """Whether full precision has nearly as much of a measure as is counted at all, so that nobody can have more,
        and a loss beyond the limit is not seen."""
        limit = {"nodes": self.sizes.cap, "distinct": self.sizes.samples}[measure]
        at = self.depth if measure == "nodes" else float("nan")
        rows = self.table[(self.table["method"] == FULL) & (self.table["measure"] == measure)]
        rows = rows[rows["at"].isna() if np.isnan(at) else np.isclose(rows["at"], at)]
        return bool(len(rows) and rows["estimate"].iloc[0] >= CUT * limit)

    def row(
        self, method: str, bits: int, measure: str, part: str = "", at: float | None = None, twin: str = MATCHED
    ) -> pd.Series:
        """One row of a variant."""
        rows = self.table
        same = (rows["method"] == method) & (rows["bits"] == bits) & (rows["measure"] == measure)
        same &= rows["part"] == part
        same &= (rows["twin"] == twin) & (rows["at"].isna() if at is None else np.isclose(rows["at"], at))
        found = rows[same]
        assert len(found) == 1, (method, bits, measure, part, at, twin, len(found))
        return found.iloc[0]

    @property
    def depth(self) -> float:
        """Of the tree."""
        return float(self.table.loc[self.table["measure"] == "nodes", "at"].max())

    def falls(self) -> bool:
        """Rule 1; one width has no steps."""
        if len(self.bits) < 2:
            return False
        for method in self.methods:
            slopes = [abs(np.log(self.row(method, bits, "slope", at=RADIUS)["ratio"])) for bits in self.bits]
            turned = [self.row(method, bits, "direction", INSIDE)["estimate"] for bits in self.bits]
            if not (np.diff(slopes) > 0).all() or not (np.diff(turned) < 0).all():
                return False
        return True

    def fewer(self, measure: str, part: str, twin: str, at: float | None = None) -> bool:
        """Whether the ratio to full precision is below 1 beyond the interval, at every low width and method."""
        return all(self.row(m, b, measure, part, at, twin)["ratio_high"] < 1 for m in self.methods for b in self.low)

    def lost(self) -> bool:
        """Rule 4, second half."""
        widths = [bits for bits in self.bits if bits <= 4] or self.low
        for method in self.methods:
            rows = [self.row(method, bits, "survival", NEAR) for bits in widths]
            chance = [self.row(method, bits, "survival_chance", NEAR)["high"] for bits in widths]
            inside = all(row["high"] < 1 and row["low"] > low for row, low in zip(rows, chance, strict=True))
            if not inside or not (np.diff([row["estimate"] for row in rows]) < 0).all():
                return False
        return True

    def near(self) -> bool:
        """Rule 6, second half."""
        bits = self.low[0]
        return all(
            self.row(method, bits, "survival", NEAR)["high"] < self.row(method, bits, "survival", RANDOM)["low"]
            for method in self.methods
        )

    def words(self, measure: str, part: str = "", at: float | None = None, twin: str = MATCHED, column: str = "ratio",
              bits: Sequence[int] = ()) -> str:  # fmt: skip
        """`"3 bits: gptq .98 (.95 to 1.02), rtn ...; 2 bits: ..."`, of the low widths unless told otherwise."""
        ends = ("low", "high") if column == "estimate" else (f"{column}_low", f"{column}_high")
        parts = []
        for width in bits or self.low:
            rows = {method: self.row(method, width, measure, part, at, twin) for method in self.methods}
            said = [f"{name} {r[column]:.2f} ({r[ends[0]]:.2f} to {r[ends[1]]:.2f})" for name, r in rows.items()]
            parts.append(f"{width} bits: {', '.join(said)}")
        return "; ".join(parts)


def _said(held: bool, open_: bool = False) -> str:
    return HOLDS if held else OPEN if open_ else NOT


def of_measures(told: Told) -> list[tuple[str, str, str]]:
    """Rules 1, 4, 5 and 6: claim, outcome, figures."""
    depth, trees, drawn = told.depth, told.cut("nodes"), told.cut("distinct")
    rows = [
        ("Smoothness falls with the bits", _said(told.falls(), len(told.bits) < 2),
         f"finite slope beside full precision's, {told.words('slope', at=RADIUS, bits=told.bits)}"),
    ]  # fmt: skip
    for twin in (PLAIN, MATCHED):
        rows += [
            (f"Candidates around a sequence get fewer ({twin})", _said(told.fewer("union", NEAR, twin)),
             f"union beside full precision's, {told.words('union', NEAR, twin=twin)}"),
            (f"The decoding tree gets sparser ({twin})", _said(told.fewer("nodes", "", twin, depth), trees),
             f"nodes at depth {depth:.0f}, {told.words('nodes', at=depth, twin=twin)}"),
            (f"Distinct continuations get fewer ({twin})", _said(told.fewer("distinct", "", twin), drawn),
             told.words("distinct", twin=twin)),
        ]  # fmt: skip
    rows += [
        ("Candidates are lost, beyond calibration", _said(told.lost()),
         f"surviving share, {told.words('survival', NEAR, column='estimate')}"),
        ("The loss is one of neighbourhoods, more than of random replacements", _said(told.near()),
         f"surviving share with random tokens, {told.words('survival', RANDOM, column='estimate', bits=told.low[:1])}"),
    ]  # fmt: skip
    return rows


def more_than_error(found: pd.DataFrame) -> tuple[str, str]:
    """Rule 3, from `beyond.table`: outcome, and for which numbers."""
    apart = found.assign(apart=(found["low"] > 0) | (found["high"] < 0)).query("kind == 'smoothness'")
    wide = apart.pivot(index="number", columns="given", values="apart").loc[list(NAMED)]
    both = wide.index[wide["divergence"] & wide["all errors"]].tolist()
    alone = wide.index[wide["divergence"] & ~wide["all errors"]].tolist()
    told = f"given the divergence and the other errors: {', '.join(both) or 'none'}; given the divergence alone: "
    return _said(bool(both)), told + (", ".join(alone) or "no other")


def of_grid(cells: pd.DataFrame, found: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Rules 2 and 3; `found` is `beyond.table` of the cells."""
    order = beyond.between(cells, "norm_ratio", [], level=0.95, target="slope_ratio")
    proxy = order.estimate >= 0.8 and order.low > 0.6
    outcome, words = more_than_error(found)
    return [
        ("Input gradients stand for smoothness", _said(bool(proxy)),
         f"Spearman with the finite slope over {len(cells)} models {order.estimate:.2f} "
         f"({order.low:.2f} to {order.high:.2f})"),
        ("Smoothness says more about answers than error does", outcome, words),
    ]  # fmt: skip


def of_trials(trials: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Rules 7 and 8."""
    parts, said = [], []
    for method in principle.METHODS:
        held = principle.helps(trials, method)
        parts.append(held)
        gaps = {name: principle.difference(trials, method, name) for name in ("none", "random")}
        for name, gap in gaps.items():
            estimate, low, high = (100 * float(value) for value in gap)
            said.append(f"{method} against {name} {estimate:+.1f} points ({low:+.1f} to {high:+.1f})")
    good = [all(held.values()) for held in parts]
    learned = all(held["learned"] for held in parts)
    outcome = HOLDS if all(good) else OPEN if any(good) or not learned else NOT
    return [
        ("A smoothness term helps quantization after training", outcome, "; ".join(said)),
        ("A smoothness term helps training with quantization", OPEN, "not tried"),
    ]


def claims_of(told: Told) -> pd.DataFrame:
    """claim, outcome, figures: the rules that need nothing but `measure`'s table."""
    return pd.DataFrame(of_measures(told), columns=COLUMNS)


def every_claim(told: Told, cells: pd.DataFrame, found: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """claim, outcome, figures: all rules of the embedded model."""
    rows = of_measures(told) + of_grid(cells, found) + of_trials(trials)
    return pd.DataFrame(rows, columns=COLUMNS)


__all__ = ["HOLDS", "NOT", "OPEN", "PUBLISHED", "Told", "claims_of", "every_claim", "more_than_error", "of_grid",
           "of_measures", "of_trials"]  # fmt: skip
