"""Stage 6, the trials: one variant, its repairs, each beside its control, on known facts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from quantcliff import models, stats
from quantcliff.models import Model, splice
from quantcliff.probes import other_facts
from quantcliff.quantizers import Scheme, average_bits, quantize, unsmoothed
from quantcliff.stages.repair import eora
from quantcliff.stages.repair.amplify import amplified_ranks, best, candidates, confidence
from quantcliff.stages.repair.budget import heavy_and_random
from quantcliff.stages.repair.trials import Trial, halves
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, Streams, depths, ranks, relay

PROTECTED_BITS = 8
PROTECTED_LAYERS = (1, 2)
"""Numbers of first layers that are protected; the paper's is two."""


class Bench:
    """One variant of a study, and the trials of its repairs on known facts."""

    def __init__(self, study: Study, label: str, n_prompts: int):
        self.study, self.variant = study, study.variant(label)
        self.config = study.base.hf.config
        self.scheme = self.variant.scheme or Scheme("rtn", self.variant.bits, self.variant.group_size)
        groups = study.groups_of(self.variant.method)
        groups = groups[groups["known"]].reset_index(drop=True)
        chosen = stats.stratified(groups["failure"].to_numpy(), n_prompts, study.seed)
        self.probes = study.known.select(chosen)
        asked = groups.iloc[chosen].reset_index(drop=True)
        weight = groups["failure"].value_counts() / asked["failure"].value_counts()
        self.groups = asked.assign(weight=asked["failure"].map(weight).astype(float))
        self.validation = halves(self.groups["failure"].to_numpy(), study.seed)
        self.full, self.own = study.runner(FULL), study.runner(label)
        self.n_layers = self.own.n_layers

    @cached_property
    def model(self) -> Model:
        """The variant in the units of the base, never wrapped by a runner."""
        return unsmoothed(self.study.base, self.study.model(self.variant.label))

    @cached_property
    def eight(self) -> Path:
        """Checkpoint of the base with all layers in 8 bits, rounded to nearest in groups of the variant's size."""
        scheme = Scheme("rtn", PROTECTED_BITS, self.variant.group_size)
        return quantize(self.study.parameters.model, scheme, (), self.study.run / "quantized")

    @cached_property
    def eight_model(self) -> Model:
        return self._load(self.eight)

    def _load(self, folder: Path) -> Model:
        return models.load(folder, device=self.study.parameters.device, dtype=self.study.parameters.dtype)

    def _bits(self, **changes: object) -> float:
        return average_bits(self.config, replace(self.scheme, **changes))  # type: ignore[arg-type]

    def _right(self, streams: Streams) -> Float[np.ndarray, " prompt"]:
        return (ranks(self.own, streams[:, -1], self.probes.answers) == 1).astype(float)

    def _run(self, model: Model) -> Float[np.ndarray, " prompt"]:
        runner = Runner(model)
        return self._right(relay(runner, runner, [0], self.probes)[0])

    def none(self) -> Trial:
        return Trial("none", "", 0, self._bits(), self._right(self.streams))

    @cached_property
    def streams(self) -> Streams:
        """Of the variant as it is."""
        return relay(self.own, self.own, [0], self.probes)[0]

    @cached_property
    def eight_runner(self) -> Runner:
        return Runner(self._load(self.eight))

    def first_layers(self, counts: Sequence[int]) -> Iterator[Trial]:
        """Protection by place; leaves the streams of each number of protected layers in `protected`."""
        self.protected = relay(self.eight_runner, self.own, counts, self.probes)
        last = relay(self.own, self.eight_runner, [self.n_layers - n for n in counts], self.probes)
        for n, streams in self.protected.items():
            here, there = range(n), range(self.n_layers - n, self.n_layers)
            first_bits, last_bits = (self._bits(bits_by_layer=_eight(layers)) for layers in (here, there))
            first, mirror = f"first {layers_in_words(n)}", f"last {layers_in_words(n)}"
            yield Trial("protection", first, n, first_bits, self._right(streams), against=mirror)
            yield Trial("protection", mirror, n, last_bits, self._right(last[self.n_layers - n]), control=True)
        if self.variant.scheme and self.variant.method != "rtn":
            scheme = replace(self.variant.scheme, bits_by_layer=_eight(range(n)))
            text, cache = self.study.calibration_for(self.variant.method), self.study.run / "quantized"
            folder = quantize(self.study.parameters.model, scheme, text, cache)
            right = self._run(self._load(folder))
            yield Trial("protection", f"{first}, again", n, first_bits, right, against=mirror)

    def heavy_modules(self, share: float) -> Iterator[Trial]:
        heavy, others = heavy_and_random(self.study.base.hf, share, self.study.seed)
        words = f"heaviest tails, {share:.0%}", f"random modules, {share:.0%}"
        yield Trial("protection", words[0], share, self._module_bits(heavy), self._modules(heavy), against=words[1])
        right = np.mean([self._modules(chosen) for chosen in others], axis=0)
        bits = float(np.mean([self._module_bits(chosen) for chosen in others]))
        yield Trial("protection", words[1], share, bits, right, control=True)

    def _module_bits(self, chosen: Sequence[str]) -> float:
        return self._bits(bits_by_module=tuple((name, PROTECTED_BITS) for name in chosen))

    def _modules(self, chosen: Sequence[str]) -> Float[np.ndarray, " prompt"]:
        taken = {f"{name}.weight" for name in chosen}
        return self._run(splice(self.model, self.eight_model, taken.__contains__))

    def amplification(
        self, base: str, streams: Streams, bits: float, alphas: Sequence[float], rules: Sequence[str | int]
    ) -> Iterator[Trial]:
        """Amplification of a model with these streams, tuned on failures and on all known facts, and its control."""
        seen, own = confidence(self.own, streams), np.arange(len(streams))
        for number, rule in enumerate(rules):
            layers = candidates(seen, rule, self.validation)
            setting = f"{base}, {rule}"
            for name, donor in ((setting, own), (f"{setting}, other lens", self.donors)):
                rank = self._amplified(streams, layers, donor, alphas)
                is_control = name != setting
                for part in ("failure", "known"):
                    chosen, index = best(rank[:, self.validation & self.groups[part].to_numpy()], alphas)
                    right = (rank[chosen, :, index] == 1).astype(float)
                    against = "" if is_control else f"{setting}, other lens, {part}"
                    yield Trial("amplification", f"{name}, {part}", alphas[index], bits, right, is_control, against,
                                tuned=part, layer=float(layers[chosen].mean()), half="test")  # fmt: skip
                if number == 0:
                    for alpha, column in zip(alphas, rank[0].T, strict=True):
                        yield Trial("amplification curve", f"{name}, alpha {alpha:g}", alpha, bits,
                                    (column == 1).astype(float), is_control, half="validation")  # fmt: skip

    def _amplified(
        self, streams: Streams, layers: Sequence[np.ndarray], donor: np.ndarray, alphas: Sequence[float]
    ) -> Int[np.ndarray, "candidate prompt alpha"]:
        added = [streams[donor, layer[donor]] for layer in layers]
        return amplified_ranks(self.own, streams[:, -1], added, alphas, self.probes.answers)

    @cached_property
    def donors(self) -> Int[np.ndarray, " prompt"]:
        """For each prompt another fact's, for the control; the next prompt where no other fact fits."""
        table, n = self.probes.table, len(self.probes)
        relations = table["relation"].tolist()
        found = other_facts(relations, self.probes.answers, self.probes.subject, self.probes.lengths, self.study.seed)
        return np.where(found < 0, (np.arange(n) + 1) % n, found)

    def compensation(self, counts: Sequence[int], moments: Callable[[], dict[str, Tensor]]) -> Iterator[Trial]:
        if not counts:
            return
        both = [eora.corrections(self.study.base, self.model, max(counts), seen) for seen in (moments(), None)]
        for rank in counts:
            bits = self._bits() + eora.rank_bits(self.config, rank)
            ours, plain = f"EoRA, rank {rank}", f"plain SVD, rank {rank}"
            right, other = (self._run(eora.compensated(self.model, factors, rank)) for factors in both)
            yield Trial("compensation", ours, rank, bits, right, against=plain)
            yield Trial("compensation", plain, rank, bits, other, control=True)

    def domino(self) -> Iterator[Trial]:
        """The first k, and the last k, layers quantized; with none of them every known fact is right by definition."""
        n, (_, *inner, _) = self.n_layers, depths(self.n_layers)
        first = relay(self.own, self.full, inner, self.probes)
        last = relay(self.full, self.own, [n - k for k in inner], self.probes)
        ends = {0: np.ones(len(self.probes)), n: self._right(self.streams)}
        for side, right in (
            ("first", ends | {k: self._right(first[k]) for k in inner}),
            ("last", ends | {k: self._right(last[n - k]) for k in inner}),
        ):
            for k in sorted(right):
                layers = range(k) if side == "first" else range(n - k, n)
                bits = self._bits(layers=tuple(layers))
                yield Trial("domino", f"{side} {k}", k, bits, right[k], control=side == "last")


def _eight(layers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((layer, PROTECTED_BITS) for layer in layers)


def layers_in_words(n: int) -> str:
    """`2` -> `"2 layers"`"""
    return f"{n} layer" if n == 1 else f"{n} layers"
