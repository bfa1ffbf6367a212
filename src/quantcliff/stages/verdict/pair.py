"""One quantized variant beside full precision: which prompts it is judged by, and what several measures of it share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Int

from quantcliff.probes import Probes, other_facts
from quantcliff.stages import components
from quantcliff.stages.repair import PROTECTED_LAYERS
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, plan, ranks, relay, sweep

FEWEST_LOST = 10
"""Lost answers below which nothing is asked about them."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One variant of a study beside full precision, and the prompts its signals are taken from.

    `n_prompts`: facts of `study.inside`, and lost ones, that are drawn at most where a signal costs much per prompt.
    `full_components`: the table of `components.of_variant` of full precision, with as many prompts.
    """

    study: Study
    label: str
    n_prompts: int
    full_components: Callable[[], pd.DataFrame]

    @cached_property
    def rank(self) -> Int[np.ndarray, " known"]:
        """Of the answers to the known facts."""
        return self.study.known_scores(self.label)["rank"].to_numpy()

    @cached_property
    def lost(self) -> Int[np.ndarray, " lost"]:
        """Numbers, among the known facts, of those this variant gets wrong; at most `n_prompts`, drawn at random."""
        wrong = np.flatnonzero(self.rank > 1)
        return np.sort(np.random.default_rng(self.study.seed).permutation(wrong)[: self.n_prompts])

    @property
    def few(self) -> str:
        """Why nothing can be asked about lost answers; "" where it can."""
        return "" if len(self.lost) >= FEWEST_LOST else f"only {len(self.lost)} answers are lost"

    @property
    def probes(self) -> Probes:
        """The prompts whose answers are lost."""
        return self.study.known.select(self.lost)

    @cached_property
    def halves(self) -> tuple[Probes, Probes]:
        """`n_prompts` known facts in two halves: what is chosen by the first is tried on the second."""
        known = self.study.sample(self.n_prompts)
        first, second = (known.select(range(start, len(known), 2)) for start in (0, 1))
        return first, second

    @property
    def full(self) -> Runner:
        return self.study.runner(FULL)

    @property
    def own(self) -> Runner:
        return self.study.runner(self.label)

    @property
    def n_layers(self) -> int:
        return self.full.n_layers

    @cached_property
    def components(self) -> pd.DataFrame:
        """The table of `components.of_variant`."""
        return components.of_variant(self.study, self.label, self.n_prompts)

    @cached_property
    def patched(self) -> pd.DataFrame:
        """`sweep` of the lost answers: the stream at all tokens after every layer but the last, from full precision;
        half-way and after the last but one also from another fact (donor "other").
        """
        probes, n = self.probes, self.n_layers
        relations = probes.table["relation"].astype(str).tolist()
        partner = other_facts(relations, probes.answers, probes.subject, probes.lengths, self.study.seed)
        patches = [patch for patch in plan(n, ["resid_post"], ["all"]) if patch.layer < n - 1]
        others = plan(n, ["resid_post"], ["all"], ["other"])
        patches += [patch for patch in others if patch.layer in (n // 2 - 1, n - 2)]
        trace, rows = self.study.trace("resid_post", probes=probes), np.arange(len(probes))
        return sweep(self.own, trace, probes, rows, partner, patches)

    @property
    def n_protected(self) -> int:
        """Layers that repair keeps in full precision: as many as in the chapter on repair."""
        return min(max(PROTECTED_LAYERS), self.n_layers - 1)

    @cached_property
    def protected(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each lost answer returns if the first `n_protected` layers are full precision's; if the last are."""
        cut, other = self.n_protected, self.n_layers - self.n_protected
        first = relay(self.full, self.own, [cut], self.probes)[cut]
        last = relay(self.own, self.full, [other], self.probes)[other]
        gain, mirror = (ranks(self.own, stream[:, -1], self.probes.answers) == 1 for stream in (first, last))
        return gain, mirror
