"""Allocations side by side: the chosen one, rivals, controls and models of one width, each made and tested.

- `both`: task and general together; `task`, `general`: one of them alone; `dual`: both, from "all but it".
- `fisher`: both, foretold from gradients. `even`, `first`, `last`: units raised in an order that is spread evenly, from
  below (the repair chapter's first layers) or from above. `random`: in a random order. `shuffled`: the widths of `both`
  on other units of the same sizes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from quantcliff.quantizers import Scheme, average_bits
from quantcliff.stages.mixture import allocation, fisher, outcomes
from quantcliff.stages.mixture.readings import Bench
from quantcliff.stages.mixture.rules import BUDGETS, MAIN
from quantcliff.stages.mixture.sensitivity import DUAL, Subject, damage
from quantcliff.stages.mixture.texts import TESTING, half_of
from quantcliff.study.shelf import Shelf

DRAWS = 20
"""Of random allocations."""

ACROSS = ("both", "general", "task", "even")
"""Tried at every budget."""

DRAWN = ("random", "shuffled")
"""Drawn `DRAWS` times. Forty GPTQ runs would take too long, so these are put together from models of one width, and
`both` and `general` stand beside them once more, put together in the same way (`COMPOSED`)."""

COMPOSED = ", composed"

RIVALS = ("first", "last", "dual", "fisher")
"""Tried at the main budget alone; `dual` where it was measured."""


@dataclass(frozen=True)
class Arm:
    """One model: an allocation under a budget (`widths`: bits by unit), or one scheme for all (`scheme`)."""

    name: str
    budget: float = float("nan")
    draw: int = 0
    widths: tuple[tuple[str, int], ...] = ()
    scheme: Scheme | None = None

    @property
    def label(self) -> str:
        return "-".join([self.name.replace(" ", "-"), f"{self.budget:g}", str(self.draw)])


@dataclass(frozen=True, eq=False)
class Race:
    """All arms of a subject.

    Args:
        table: of `sensitivity.measure`.
        composed: put models together from those of one width, instead of quantizing each anew.
    """

    subject: Subject
    table: pd.DataFrame
    composed: bool = False

    @cached_property
    def cost(self) -> Float[np.ndarray, "unit option"]:
        subject = self.subject
        return allocation.costs(subject.study.base.hf.config, subject.units, subject.options, subject.group_size)

    @cached_property
    def alone(self) -> dict[str, Float[np.ndarray, "unit option"]]:
        return damage(self.table, list(self.subject.units), self.subject.options)

    @cached_property
    def foretold(self) -> dict[str, Float[np.ndarray, "unit option"]]:
        return fisher.damage(self.subject)

    @cached_property
    def tester(self) -> Bench:
        subject = self.subject
        return Bench(subject.study.base, half_of(subject.study, TESTING, subject.sizes), subject.precision)

    def chosen(self, name: str, budget: float, draw: int = 0) -> Int[np.ndarray, " unit"]:
        """Place of each unit's width among the options."""
        units, random = list(self.subject.units), np.random.default_rng(draw)
        orders = {"even": allocation.spread_evenly(len(units)), "first": [*range(len(units))],
                  "last": [*range(len(units))][::-1], "random": random.permutation(len(units)).tolist()}  # fmt: skip
        if name in orders:
            return allocation.fill(orders[name], self.cost, budget)
        if name == "shuffled":
            return allocation.shuffled(self.chosen("both", budget), self.cost, random)
        return allocation.allocate(self.wanted(name), self.cost, budget)

    def wanted(self, name: str) -> Float[np.ndarray, "unit option"]:
        """What an allocation of this name keeps small."""
        if name in ("task", "general"):
            return self.alone["facts" if name == "task" else "text"]
        found = {"dual": lambda: self._dual, "fisher": lambda: self.foretold}.get(name, lambda: self.alone)()
        return allocation.summed(found["facts"], found["text"])

    @cached_property
    def _dual(self) -> dict[str, np.ndarray]:
        """What a unit costs among quantized ones, less of it than of the whole model; nothing in the widest option,
        which was not tried so."""
        subject, found = self.subject, {}
        narrow = [bits for bits in subject.options if bits != max(subject.options)]
        but = damage(self.table, list(subject.units), narrow, DUAL)
        rows = self.table[(self.table["way"] == DUAL) & (self.table["unit"] == "") & (self.table["block"] >= 0)]
        whole = rows.groupby("bits")[["facts", "text"]].mean().loc[narrow]
        for signal in ("facts", "text"):
            saved = whole[signal].to_numpy() - but[signal]
            found[signal] = np.column_stack([saved, np.zeros(len(saved))])
        return found

    def arm(self, name: str, budget: float = MAIN, draw: int = 0) -> Arm:
        bits = [self.subject.options[place] for place in self.chosen(name, budget, draw)]
        return Arm(name, budget, draw, tuple(zip(self.subject.units, bits, strict=True)))

    def arms(self, budgets: Sequence[float] = BUDGETS, draws: int = DRAWS) -> Iterator[Arm]:
        """Models of one width, then allocations, those of the main budget first."""
        size = self.subject.group_size
        yield from (Arm(f"gptq, {bits} bits", scheme=Scheme("gptq", bits, size)) for bits in (4, 3, 2))
        yield from (Arm(f"{method}, 4 bits", scheme=Scheme(method, 4, size)) for method in ("awq", "rtn"))
        yield from (self.arm(name) for name in ACROSS)
        yield from (self.arm(name, budget) for budget in budgets if budget != MAIN for name in ACROSS)
        if draws and not self.composed:
            yield from (replace(self.arm(name), name=name + COMPOSED) for name in ("both", "general"))
        yield from (self.arm(name, draw=draw) for name in DRAWN for draw in range(draws))
        dual = bool((self.table["way"] == DUAL).any())
        yield from (self.arm(name) for name in RIVALS if dual or name != "dual")

    def is_composed(self, arm: Arm) -> bool:
        """Whether an arm is put together from models of one width."""
        return not arm.scheme and (self.composed or arm.name in DRAWN or arm.name.endswith(COMPOSED))

    def scheme(self, arm: Arm) -> Scheme:
        """What makes an arm's checkpoint."""
        if arm.scheme:
            return arm.scheme
        return scheme_of(self.subject, dict(arm.widths))

    def weights(self, arm: Arm) -> dict[str, Tensor]:
        """An arm's matrices."""
        if not self.is_composed(arm):
            return self.subject.weights(self.scheme(arm))
        for bits in {bits for _, bits in arm.widths} - set(self._uniform):
            self._uniform[bits] = self.subject.uniform(bits)
        return {name: self._uniform[bits][name] for unit, bits in arm.widths for name in self.subject.units[unit]}

    @cached_property
    def _uniform(self) -> dict[int, dict[str, Tensor]]:
        return {}

    def outcome(self, arm: Arm, bench: Bench) -> pd.DataFrame:
        """`outcomes.outcome` of an arm on a half."""
        half = "test" if bench is self.tester else "choose"
        content = [self.subject.content(), repr(self.scheme(arm)), self.is_composed(arm)]
        shelf = Shelf(self.subject.study.run)
        return outcomes.outcome(bench, shelf, f"{half}-{arm.label}", content, lambda: self.weights(arm))

    def row(self, arm: Arm) -> dict[str, object]:
        """What is said of an arm: bits per weight; on the testing half kept, and the increase of facts, text, copies;
        but for `DRAWN` the increases on the choosing half (`chosen_`); what the units' own add up to (`predicted_`)."""
        config = self.subject.study.base.hf.config
        found: dict[str, object] = {"arm": arm.name, "budget": arm.budget, "draw": arm.draw,
                                    "bits": average_bits(config, self.scheme(arm))}  # fmt: skip
        halves = {"": self.tester, "chosen_": self.subject.bench}
        for prefix, bench in halves.items() if arm.name not in DRAWN else [("", self.tester)]:
            own, exact = outcomes.means(self.outcome(arm, bench)), outcomes.means(self.exact(bench))
            found |= {f"{prefix}kept": own["kept"]}
            found |= {f"{prefix}{name}": own[name] - exact[name] for name in ("facts", "text", "copies")}
        widths = dict(arm.widths) or dict.fromkeys(self.subject.units, self.scheme(arm).bits)
        if self.scheme(arm).method == self.subject.method:
            places = np.array([list(self.subject.options).index(bits) for bits in widths.values()])
            found |= {f"predicted_{name}": allocation.spent(places, table) for name, table in self.alone.items()}
        return found

    def exact(self, bench: Bench) -> pd.DataFrame:
        """Full precision on a half."""
        return self._exact[bench is self.tester]

    @cached_property
    def _exact(self) -> dict[bool, pd.DataFrame]:
        benches = {True: self.tester, False: self.subject.bench}
        return {test: outcomes.rows_of(bench.read({})) for test, bench in benches.items()}


def scheme_of(subject: Subject, widths: dict[str, int]) -> Scheme:
    """The scheme that gives every unit its width."""
    pairs = tuple((name, bits) for unit, bits in widths.items() for name in subject.units[unit])
    return Scheme(subject.method, min(widths.values()), subject.group_size, bits_by_module=pairs)
