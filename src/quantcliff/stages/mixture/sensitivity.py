"""What each unit of a model costs, quantized alone, and what it would save if it alone were not.

A unit is a module or a layer. Its matrices come from checkpoints of the whole model, one for each width, so GPTQ
calibrated those of a later layer behind layers of the same width and not behind exact ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor
from transformers import PretrainedConfig

from quantcliff import models, quantizers
from quantcliff.models import layer_of
from quantcliff.quantizers import Scheme
from quantcliff.stages.boundary.budget import Source, decibels
from quantcliff.stages.boundary.margins import Contraction
from quantcliff.stages.boundary.readings import Reference
from quantcliff.stages.mixture.losses import SIGNALS, Losses
from quantcliff.stages.mixture.readings import EXACT, Bench, Weights, weights_of
from quantcliff.stages.mixture.texts import CHOOSING, Half, Sizes, blend, digest_parts, half_of
from quantcliff.study import Study
from quantcliff.study.shelf import Shelf

OPTIONS = (2, 3, 4, 8)
"""Widths that a unit can have."""

ALONE, DUAL = "alone", "all but it"

ALPHA = 0.5
"""Share of general text that GPTQ is calibrated on, unless a mixture is what is looked at."""

MOST_MODULES = 64
"""Modules up to which each is a unit; beyond that a layer is."""


def units_of(config: PretrainedConfig) -> dict[str, list[str]]:
    """Modules by unit: `"3.v_proj"` for a module, `"3"` for a layer."""
    found: dict[str, list[str]] = {}
    names = models.linears(config)
    for name in names:
        layer = str(layer_of(name))
        unit = f"{layer}.{name.rsplit('.', 1)[1]}" if len(names) <= MOST_MODULES else layer
        found.setdefault(unit, []).append(name)
    return found


@dataclass(frozen=True, eq=False)
class Subject:
    """A study, and all that its mixture is measured with.

    Args:
        alpha: share of general text that `method` is calibrated on (`texts.blend`).
        options: widths, ascending.
        text: calibration text to be used instead.
        precision: of products (`readings.products`).
    """

    study: Study
    sizes: Sizes
    method: str = "gptq"
    alpha: float = ALPHA
    options: Sequence[int] = OPTIONS
    text: Sequence[str] | None = None
    precision: str = EXACT

    @property
    def group_size(self) -> int:
        return self.study.parameters.group_size

    @cached_property
    def units(self) -> dict[str, list[str]]:
        return units_of(self.study.base.hf.config)

    @cached_property
    def calibration(self) -> list[str]:
        if self.method == "rtn":
            return []
        return blend(self.study, self.alpha, self.sizes.tokens) if self.text is None else list(self.text)

    def calibration_of(self, method: str) -> list[str]:
        """What another method is calibrated on: where a text is given, what the study's book gives that method."""
        if self.text is None or method == self.method:
            return self.calibration
        return self.study.calibration_for(method)

    @cached_property
    def choosing(self) -> Half:
        return half_of(self.study, CHOOSING, self.sizes)

    @cached_property
    def bench(self) -> Bench:
        return Bench(self.study.base, self.choosing, self.precision)

    @cached_property
    def full(self) -> Losses:
        """Full precision on the choosing half."""
        return self.bench.read({})

    @cached_property
    def moments(self) -> dict[str, Tensor]:
        """E[x x^T] of every module's inputs on the choosing half's facts, at all tokens but the first."""
        return Reference.of_facts(self.study.base, self.choosing.facts)[0].moments

    def weights(self, scheme: Scheme, text: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Matrices of the model that a scheme makes, calibrated on `calibration` or another text."""
        if text is None:
            text = self.calibration_of(scheme.method)
        folder = quantizers.quantize(self.study.parameters.model, scheme, text, self.study.run / "quantized")
        return weights_of(self.study.base, folder)

    def uniform(self, bits: int) -> dict[str, Tensor]:
        """All matrices in one width."""
        return self.weights(Scheme(self.method, bits, self.group_size))

    def content(self) -> list[object]:
        """All that a sensitivity depends on but its width."""
        asked = self.study.parameters
        return [self.study.base.digest, self.method, self.group_size, self.calibration, asked.dtype, self.precision,
                self.study.seed, *digest_parts(self.choosing)]  # fmt: skip


def measure(
    subject: Subject, ways: Sequence[str] = (ALONE, DUAL), only: Sequence[str] = (), widths: Sequence[int] = ()
) -> pd.DataFrame:
    """Every unit at every width; each width is kept as soon as it is done.

    Args:
        only, widths: units, and bits; all by default.

    Returns:
        unit, layer, weights (how many), bits, way, block, and of this block the increase over full precision of
        facts (nats an answer), text and copies (nats a token; NaN where full precision does not copy). Rows without a
        unit: the whole model. Rows without a block: of all facts, `kept` (share of answers) and of the way `ALONE`
        kappa (margins, equal spread), sigma, weight_snr, source_snr, strength, alignment (decibels, inputs of facts).
    """
    parts = []
    for way in ways:
        for bits in widths or subject.options:
            if way == DUAL and bits == max(subject.options):
                continue

            def rows(way: str = way, bits: int = bits) -> pd.DataFrame:
                return measured(subject, way, bits, only)

            content = [*subject.content(), way, bits, list(only)]
            parts.append(Shelf(subject.study.run).kept("mixture", f"{way.split()[0]}-{bits}bit", content, rows))
    return pd.concat(parts, ignore_index=True)


def measured(subject: Subject, way: str, bits: int, only: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of `measure` of one way and width."""
    quantized = subject.uniform(bits)
    units = {unit: subject.units[unit] for unit in only or subject.units}
    background: Weights = {} if way == ALONE else quantized
    foreground: Weights = quantized if way == ALONE else {}
    rows = [_rows(subject, "", subject.bench.read(quantized))]
    desc = f"{way}, {bits} bits"
    for unit, losses in subject.bench.one_at_a_time(units, background, foreground, desc):
        found = _rows(subject, unit, losses)
        if way == ALONE:
            found = pd.concat([found[found["block"] >= 0], _whole(subject, unit, losses, quantized)])
        rows.append(found)
    table = pd.concat(rows, ignore_index=True).assign(bits=bits, way=way)
    return table.assign(layer=[int(unit.split(".")[0]) if unit else -1 for unit in table["unit"]])


def _rows(subject: Subject, unit: str, losses: Losses) -> pd.DataFrame:
    """Increase by block (block -1: kept, of all)."""
    more = losses.by_block() - subject.full.by_block()
    shapes = models.linears(subject.study.base.hf.config)
    names = subject.units[unit] if unit else list(shapes)
    size = sum(shapes[name][0] * shapes[name][1] for name in names)
    whole = pd.DataFrame([{"block": -1, "kept": losses.right.mean()}])
    return pd.concat([more.rename_axis("block").reset_index(), whole]).assign(unit=unit, weights=size)


def _whole(subject: Subject, unit: str, losses: Losses, quantized: Weights) -> pd.DataFrame:
    """The row without a block of a unit alone."""
    full = subject.full.margin
    ahead = full > 0
    fit = Contraction.fit(full[ahead], losses.margin[ahead])
    found = {"kappa": fit.kappa, "sigma": fit.sigma} | budget(subject, unit, quantized)
    return _rows(subject, unit, losses).query("block < 0").assign(**found)


def budget(subject: Subject, unit: str, quantized: Weights) -> dict[str, float]:
    """Medians over a unit's modules, decibels: weight_snr, source_snr, strength, alignment (`boundary.budget`)."""
    found = []
    for name in subject.units[unit]:
        exact = subject.study.base.hf.get_submodule(name).weight.detach()  # type: ignore[union-attr]
        found.append(Source.of(exact, quantized[name] - exact, subject.moments[name].to(exact.device)))
    values = {
        "weight_snr": [one.weight for one in found], "source_snr": [one.snr for one in found],
        "strength": [one.strength for one in found], "alignment": [one.alignment for one in found],
    }  # fmt: skip
    return {name: float(np.median(decibels(np.array(ratios)))) for name, ratios in values.items()}


def damage(
    table: pd.DataFrame, units: Sequence[str], options: Sequence[int], way: str = ALONE
) -> dict[str, np.ndarray]:
    """Mean increase by unit and width of every signal, (unit, option)."""
    rows = table[(table["way"] == way) & (table["block"] >= 0) & (table["unit"] != "")]
    means = rows.groupby(["unit", "bits"])[list(SIGNALS)].mean()
    return {name: means[name].unstack("bits").loc[list(units), list(options)].to_numpy() for name in SIGNALS}
