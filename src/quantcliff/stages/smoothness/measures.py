"""Smoothness of every variant of a study, plain and temperature-matched, beside full precision."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from quantcliff import models, stats
from quantcliff.models import Model
from quantcliff.stages.macro import running_text
from quantcliff.stages.smoothness.inputs import STANDARD, Inputs, Sizes
from quantcliff.stages.smoothness.seen import SHARES, Looking, Seen
from quantcliff.study import FULL, Study
from quantcliff.study.shelf import Shelf

PLAIN, MATCHED = "plain", "matched"
"""Twins: logits as they are, and with full precision's mean entropy on running text."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A study with what full precision does on the inputs."""

    study: Study
    sizes: Sizes = STANDARD

    @cached_property
    def inputs(self) -> Inputs:
        """Of running text, or where a study has none of its calibration text."""
        text = running_text(self.study) or self.study.calibration_text
        return Inputs.of(self.study.base, text, self.sizes, self.study.seed)

    @cached_property
    def looking(self) -> Looking:
        return Looking.of(self.study.base, self.inputs, self.sizes, self.study.seed)

    @cached_property
    def full(self) -> Seen:
        (found,) = self.looking.look(models.twin(self.study.base), (1.0,))
        return found.beside(found, self.inputs.inside)

    def rows(self, model: Model) -> pd.DataFrame:
        """All about one model.

        Returns:
            twin, measure, part, at (radius, layer or depth), estimate (mean over sequences or starts), low, high
            (bootstrap over them), ratio (to full precision's mean, but for `SHARES`), ratio_low, ratio_high (bootstrap
            in pairs), n; and a row `tau` each.
        """
        tau = self.looking.twin(model)
        seen = self.looking.look(model, (1.0, tau))
        return pd.concat([
            self._table(one.beside(self.full, self.inputs.inside)).assign(twin=twin)
            for twin, one in zip((PLAIN, MATCHED), seen, strict=True)
        ], ignore_index=True)  # fmt: skip

    def full_rows(self) -> pd.DataFrame:
        """The same of full precision, plain."""
        return self._table(self.full).assign(twin=PLAIN)

    def _table(self, seen: Seen) -> pd.DataFrame:
        first = pd.DataFrame([{"measure": "tau", "part": "", "at": float("nan"), "estimate": seen.tau, "n": 1}])
        parts, seed = [], self.study.seed
        for n in dict.fromkeys(map(len, seen.values.values())):  # what is of one length is drawn together
            keys = [key for key, own in seen.values.items() if len(own) == n]
            own = np.stack([seen.values[key] for key in keys], -1)
            part = pd.DataFrame(keys, columns=["measure", "part", "at"]).assign(n=n)
            part[["estimate", "low", "high"]] = np.stack(stats.bootstrap_mean(own, seed), -1)
            part[["ratio", "ratio_low", "ratio_high"]] = np.nan
            both = [place for place, (measure, *_) in enumerate(keys) if measure not in SHARES]
            if both:
                theirs = np.stack([self.full.values[keys[place]] for place in both], -1)
                found = stats.bootstrap(own[:, both], theirs, statistic=ratio_of_means, seed=seed)
                part.loc[both, ["ratio", "ratio_low", "ratio_high"]] = np.stack(found, -1)
            parts.append(part)
        return pd.concat([first, *parts], ignore_index=True)


def ratio_of_means(own: np.ndarray, theirs: np.ndarray, axis: int = 0) -> Float[np.ndarray, "..."]:
    """Mean of one over mean of the other."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(own.mean(axis) / theirs.mean(axis))


def measure(study: Study, sizes: Sizes = STANDARD, beside: Mapping[str, Path] | None = None) -> pd.DataFrame:
    """Full precision, and every variant -> RUN/smoothness.parquet.

    Args:
        beside: other checkpoints of the same base, by name.

    Returns:
        variant, method, bits, group_size and the columns of `Bench.rows`; of `beside` variant and method are the name.
    """
    bench = Bench(study, sizes)

    def compute(label: str) -> pd.DataFrame:
        return bench.full_rows() if label == FULL else bench.rows(study.model(label))

    found = study.table("smoothness", compute, study.labels, sizes=asdict(sizes))
    parts = [found]
    for name, folder in (beside or {}).items():
        content = [study.base.digest, models.digest_of(folder), asdict(sizes), study.seed, running_text(study)]

        def other(folder: Path = folder) -> pd.DataFrame:
            asked = study.parameters
            return bench.rows(models.load(folder, device=asked.device, dtype=asked.dtype))

        rows = Shelf(study.run).kept("smoothness", name.replace(" ", "-"), content, other)
        stated = models.quantization_of(folder) or {}
        same = {key: stated.get(key, -1) for key in ("bits", "group_size")}
        parts.append(rows.assign(variant=name, method=name, **same))
    return Shelf(study.run).whole("smoothness", parts) if len(parts) > 1 else found
