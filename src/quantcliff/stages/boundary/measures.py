"""What is measured of every cell of the grid, on the same facts and the same text, and how it is kept cell by cell."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from quantcliff import models, quantizers, stats
from quantcliff.models import Model, layer_of
from quantcliff.probes import Probes
from quantcliff.quantizers import rounding
from quantcliff.stages.boundary import numbers
from quantcliff.stages.boundary.budget import decibels, ratio, snr
from quantcliff.stages.boundary.cells import Cell, calibration, made
from quantcliff.stages.boundary.margins import contraction, margins, slope, spread
from quantcliff.stages.boundary.readings import Read, Reference, layers_of
from quantcliff.stages.boundary.texts import batches_of
from quantcliff.stages.components.measures import sign_flips
from quantcliff.stages.macro import running_text
from quantcliff.stages.representations.comparison import cka_table
from quantcliff.stages.verdict import questions
from quantcliff.stages.verdict.causes import leaning
from quantcliff.stages.verdict.signals import BEST_KEPT
from quantcliff.study import Study
from quantcliff.study.shelf import Shelf
from quantcliff.tracing import Runner, rank_of, ranks, relay

INSIDE = 200
"""Facts on which gates and patching are looked at."""

FEWEST_LOST = 10
"""Lost answers below which nothing is asked about them."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A study with what every cell is held against, read once."""

    study: Study

    @cached_property
    def facts(self) -> Reference:
        return self._facts[0]

    @cached_property
    def probes(self) -> Probes:
        """The known facts in the order in which `facts` reads them."""
        return self.study.known.select(self._facts[1])

    @cached_property
    def _facts(self) -> tuple[Reference, Int[np.ndarray, " prompt"]]:
        return Reference.of_facts(self.study.base, self.study.known)

    @cached_property
    def text(self) -> Reference:
        documents = running_text(self.study)
        return Reference(self.study.base, batches_of(self.study.base.tokenizer, documents), last=False)

    @cached_property
    def inside(self) -> Int[np.ndarray, " chosen"]:
        """Places in `probes`, evenly drawn."""
        return np.sort(np.random.default_rng(self.study.seed).permutation(len(self.probes))[:INSIDE])

    def kept(self, cell: Cell) -> pd.DataFrame:
        """`measured` of a cell, read back where it is on the shelf."""
        study = self.study
        content = [study.base.digest, asdict(cell), calibration(study, cell), study.known.digest, study.seed]
        content += [running_text(study), study.parameters.dtype]
        return Shelf(study.run).kept("boundary", f"{cell.model}-{cell.label}", content, lambda: self.measured(cell))

    def measured(self, cell: Cell) -> pd.DataFrame:
        """All about a cell: a row without a layer for the cell as a whole, then one for each layer.

        Of the whole: `Cell`'s fields, the measures of `answers`, `margin`, `causes`, `fitted` and `numbers.measured`.
        Of a layer: snr, cleaned_snr, carried, own, rho, amplification, weight_snr, source_snr, sign_flips, cka.
        """
        own = made(self.study, cell)
        sources = numbers.sources(self.study.base, own, self.facts.moments)
        whole: dict[str, Any] = {f"fact_{name}": value for name, value in numbers.of_weights(sources).items()}
        whole |= self.fitted(cell, own) | numbers.measured(self.text, own, self.average_bits(cell))
        runner = Runner(own)
        read = self.facts.beside(runner)
        whole |= self.answers(read) | self.margin(read) | self.causes(runner, read)
        layers = self.layers(read).assign(**_by_layer(sources))
        whole |= {
            "fact_snr": layers["cleaned_snr"].iloc[-1],
            "rho": layers["rho"].mean(),
            "amplification": layers["amplification"].mean(),
            "own_share": (layers["own"] / (layers["own"] + layers["carried"])).mean(),
            "sign_flips": layers["sign_flips"].mean(),
            "cka": layers["cka"].mean(),
        }
        rows = pd.concat([pd.DataFrame([whole]), layers], ignore_index=True)
        return pd.concat([_named(cell, rows.index), rows], axis=1).astype({"layer": "Int64"})

    def average_bits(self, cell: Cell) -> float:
        """Bits per weight, scales and zero points counted."""
        config = self.study.base.hf.config
        return quantizers.average_bits(config, cell.scheme(config.num_hidden_layers))

    def answers(self, read: Read) -> dict[str, Any]:
        """kept (share of known answers, Wilson), lost_rank (median of the lost), with `_low`, `_high`; n, n_lost."""
        rank = rank_of(read.logits, self.probes.answers).numpy()
        lost = rank[rank > 1]
        found = _interval("kept", stats.share(rank == 1)) | {"n": len(rank), "n_lost": len(lost)}
        return found | _interval("lost_rank", stats.median(lost)) | {"rank": float(np.median(rank))}

    def margin(self, read: Read) -> dict[str, Any]:
        """`contraction` of the margins as they are, and with `scaled_` in front of logits scaled to equal spread; kappa
        with bootstrap bounds over facts, observed with Wilson's."""
        answers, found = self.probes.answers, dict[str, Any]()
        logits = (self.facts.full.logits, read.logits)
        plain = [margins(part, answers).double().numpy() for part in logits]
        for name, units in {"": (1.0, 1.0), "scaled_": tuple(map(spread, logits))}.items():
            full, own = (part / unit for part, unit in zip(plain, units, strict=True))
            ahead = full > 0
            fit = contraction(full[ahead], own[ahead], self.study.seed)
            bounds = stats.bootstrap(own[ahead], full[ahead], statistic=slope, seed=self.study.seed)
            found |= {f"{name}{key}": value for key, value in (fit | _interval("kappa", bounds)).items()}
        flips = stats.wilson(round(found["observed"] * found["tested"]), int(found["tested"]))
        return found | {"observed_low": flips[0], "observed_high": flips[1]}

    def layers(self, read: Read) -> pd.DataFrame:
        """The budget of every layer at the last tokens, sign flips of its gates and CKA with full precision's."""
        full = self.facts.full
        budget = layers_of(full, read)
        cleaned = [snr(full.streams[:, n], read.streams[:, n], cleaned=True) for n in range(len(budget))]
        parts, same = [np.arange(len(self.probes))], [(n, n) for n in range(len(budget))]
        cka = cka_table(full.streams, read.streams, parts, same).query("measure == 'cka_debiased'")["estimate"]
        flips = np.full(len(budget), np.nan)
        if full.gate is not None and read.gate is not None:
            flips = sign_flips(full.gate[self.inside], read.gate[self.inside]).mean(0).numpy()
        return pd.DataFrame({
            "layer": range(len(budget)), "snr": decibels(np.array([one.snr for one in budget])),
            "cleaned_snr": decibels(np.array(cleaned)), "carried": [one.carried for one in budget],
            "own": [one.own for one in budget], "rho": [one.rho for one in budget],
            "amplification": [one.amplification for one in budget], "sign_flips": flips, "cka": cka.to_numpy(),
        })  # fmt: skip

    def causes(self, runner: Runner, read: Read) -> dict[str, Any]:
        """The verdict's two deciding questions (`verdict.questions`), and the `mode` that follows from them.

        `responds`: share of the lost answers that return if all layers but the last are full precision's. `forms`: do
        lost answers still lean the right way. `fed`: as `responds`, but of all answers and whether they are right then,
        so that it can be asked of every cell.
        """
        rank = rank_of(read.logits, self.probes.answers).numpy()
        lost = np.sort(np.random.default_rng(self.study.seed).permutation(np.flatnonzero(rank > 1))[:INSIDE])
        few = len(lost) < FEWEST_LOST
        found = {
            "responds": stats.share(np.empty(0, dtype=bool) if few else self._fed(runner, lost)),
            "forms": stats.bootstrap_mean(self._leaning(read, self.inside if few else lost), self.study.seed),
        }
        asked = pd.DataFrame([
            {"signal": name, "layer": pd.NA, "value": value, "low": low, "high": high, "n": len(lost),
             "control": np.nan, "note": ""}
            for name, (value, low, high) in found.items()
        ])  # fmt: skip
        mode = "intact" if (rank == 1).mean() >= BEST_KEPT else questions.mode_of(questions.answers(asked))
        found["fed"] = stats.share(self._fed(runner, self.inside))
        return {"mode": mode} | {key: value for name in found for key, value in _interval(name, found[name]).items()}

    def _leaning(self, read: Read, chosen: np.ndarray) -> Float[np.ndarray, " fact"]:
        """`leaning` of these facts, relation by relation; facts without a partner are left out."""
        found = [np.empty(0)]
        relations = self.probes.table["relation"].iloc[chosen]
        for members in relations.groupby(relations.to_numpy(), sort=False).indices.values():
            places = chosen[members]
            log = torch.log_softmax(read.logits[places].double(), -1)
            own = [self.probes.answers[place] for place in places]
            found.append(leaning(torch.stack([log[:, list(tokens)].amax(1) for tokens in own], 1).numpy(), own))
        values = np.concatenate(found)
        return values[~np.isnan(values)]

    def _fed(self, runner: Runner, chosen: np.ndarray) -> np.ndarray:
        probes, cut = self.probes.select(chosen), runner.n_layers - 1
        streams = relay(self.facts.runner, runner, [cut], probes)[cut]
        return ranks(runner, streams[:, -1], probes.answers) == 1

    def fitted(self, cell: Cell, own: Model) -> dict[str, float]:
        """`ratio` over modules under the facts' inputs: median (overfit), share above 1 (overfit_share), largest."""
        config = self.study.base.hf.config
        scheme, exact, mine = cell.scheme(config.num_hidden_layers), *map(_weights, (self.study.base, own))
        found = []
        for name, bits in scheme.plan(config).items():
            plain = rounding.rounded(exact[name], quantizers.Scheme("rtn", bits, cell.group_size)) - exact[name]
            found.append(ratio(mine[name] - exact[name], plain, self.facts.moments[name].to(plain.device)))
        values = np.array(found)
        return {
            "overfit": float(np.median(values)),
            "overfit_share": float((values > 1).mean()),
            "overfit_most": float(values.max()),
        }


def _weights(model: Model) -> dict[str, torch.Tensor]:
    names = models.linears(model.hf.config)
    return {name: model.hf.get_submodule(name).weight.detach().float() for name in names}  # type: ignore[union-attr]


def _by_layer(sources: dict[str, numbers.Source]) -> dict[str, np.ndarray]:
    """Medians over the modules of each layer, decibels."""
    table = pd.DataFrame(
        [(layer_of(name), decibels(one.weight), decibels(one.snr)) for name, one in sources.items()],
        columns=["layer", "weight_snr", "source_snr"],
    )
    return {name: column.to_numpy() for name, column in table.groupby("layer").median().items()}


def _interval(name: str, found: stats.Interval) -> dict[str, float]:
    return {name: float(found.estimate), f"{name}_low": float(found.low), f"{name}_high": float(found.high)}


def _named(cell: Cell, index: pd.Index) -> pd.DataFrame:
    fields = {name: value for name, value in asdict(cell).items() if name != "composed"}
    return pd.DataFrame({"cell": cell.label, **fields}, index=index)


def measure(study: Study, cells: list[Cell]) -> pd.DataFrame:
    """Every cell of a study's model, one after the other; what is finished is read back -> the rows of
    `Bench.measured`."""
    bench = Bench(study)
    parts = [bench.kept(cell) for cell in tqdm(cells, desc=f"boundary {study.base.name}", disable=None)]
    return pd.concat(parts, ignore_index=True)

