"""The principle tried: layers healed with a term for the gradients they hand back (`rules`, 7)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from quantcliff import models, stats
from quantcliff.quantizers.healing import GRADIENT, RANDOM, REPORT, Recipe
from quantcliff.stages.healing import Arm, checkpoint, healing_half
from quantcliff.stages.macro import document_losses, running_text
from quantcliff.stages.smoothness.rules import EQUAL, SEEDS, SEQUENCES, WEIGHTS
from quantcliff.study import Study
from quantcliff.study.shelf import Shelf
from quantcliff.tracing import Runner, score

METHODS = ("gptq", "rtn")
KEYS = ["method", "along", "weight", "seed"]


@dataclass(frozen=True)
class Trial:
    """One healed model: the weight of the term (0: none, but measured), its vector, the order of the text."""

    weight: float = 0.0
    along: str = GRADIENT
    seed: int = 0

    def arm(self, sequences: int = SEQUENCES) -> Arm:
        name = f"smooth {self.along} {self.weight:g} seed {self.seed}"
        return Arm(name, sequences, Recipe(seed=self.seed, along=self.along, smooth=self.weight))


def study_of(run: object, method: str, device: str = "auto") -> Study:
    """The study of a method at 2 bits; the facts of the chapter on healing."""
    return Study("atlas", method=method, bits="2", run=str(run), device=device)


def tried(study: Study, trial: Trial, sequences: int = SEQUENCES) -> pd.DataFrame:
    """A trial's model: made, and asked; kept in RUN/smoothness_trials.

    Returns:
        A row a known fact that the text is not about: method, along, weight, seed, fact, kept; and of the model as a
        whole reconstruction and gradient (errors on held-out sequences, mean over layers), validation and test (nats a
        token of two halves of the running text).
    """
    (label,) = study.variants
    arm = trial.arm(sequences)
    content = [study.base.digest, study.variant(label).scheme, study.known.digest, arm, study.seed]
    return Shelf(study.run).kept("smoothness_trials", f"{label}-{arm.name.replace(' ', '-')}", content,
                                 partial(_asked, study, label, trial, arm))  # fmt: skip


def _asked(study: Study, label: str, trial: Trial, arm: Arm) -> pd.DataFrame:
    folder = checkpoint(study, label, arm)
    course = pd.DataFrame(json.loads((folder / REPORT).read_text(encoding="utf-8"))["course"]).query("kept == 1")
    runner = Runner(models.load(folder, device=study.parameters.device))
    unseen = ~healing_half(study.known)
    kept = score(runner, study.known)["rank"].to_numpy()[unseen] == 1
    encoded = [study.base.tokenizer(text).input_ids for text in running_text(study)]
    losses, tokens = document_losses(runner, encoded), np.array([len(ids) - 1 for ids in encoded])
    about = {"method": study.variant(label).method, "along": trial.along, "weight": trial.weight, "seed": trial.seed}
    about |= {"reconstruction": course["normalised"].mean(), "gradient": course["gradient"].mean()}
    for start, name in enumerate(("validation", "test")):
        about[name] = losses[start::2].sum() / tokens[start::2].sum()
    return pd.DataFrame({**about, "fact": np.flatnonzero(unseen), "kept": kept})


def chosen(rows: pd.DataFrame) -> float:
    """The weight of a method by the rule: of the smallest validation loss among those whose reconstruction error is at
    most `EQUAL` above that without the term (the smallest weight if none is); by the trials along the gradient with
    seed 0."""
    first = whole(rows).query(f"along == '{GRADIENT}' and seed == 0")
    bare, others = first[first["weight"] == 0], first[first["weight"] > 0]
    near = others[others["reconstruction"] <= (1 + EQUAL) * bare["reconstruction"].item()]
    return float(near.loc[near["validation"].idxmin(), "weight"] if len(near) else others["weight"].min())


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a trial: `KEYS`, the measures of the model as a whole, and kept with its Wilson interval."""
    found = []
    for keys, part in rows.groupby(KEYS, sort=False):
        first = part.iloc[0][["reconstruction", "gradient", "validation", "test"]].to_dict()
        share = _interval(stats.share(part["kept"]))
        found.append({**dict(zip(KEYS, keys, strict=True)), **first, **share, "n": len(part)})
    return pd.DataFrame(found)


def _interval(found: stats.Interval) -> dict[str, float]:
    return {name: float(value) for name, value in found._asdict().items()}


def make(study: Study, sequences: int = SEQUENCES, seeds: int = SEEDS) -> pd.DataFrame:
    """All trials of a method: the weights with seed 0, then with every seed the chosen weight, the same on a random
    vector, and none."""
    rows = [tried(study, Trial(weight), sequences) for weight in (0.0, *WEIGHTS)]
    weight = chosen(pd.concat(rows))
    rows.append(tried(study, Trial(weight, RANDOM), sequences))
    for seed in range(1, seeds):
        trials = (Trial(0.0, seed=seed), Trial(weight, seed=seed), Trial(weight, RANDOM, seed))
        rows += [tried(study, trial, sequences) for trial in trials]
    return pd.concat(rows, ignore_index=True)


def difference(rows: pd.DataFrame, method: str, against: str) -> stats.Interval:
    """Share of answers that the term keeps beyond "none" (weight 0) or "random", in pairs of facts, averaged over the
    seeds that both have."""
    own = rows[rows["method"] == method]
    weight = chosen(own)
    parts = {
        "term": own[(own["along"] == GRADIENT) & (own["weight"] == weight)],
        "none": own[own["weight"] == 0],
        RANDOM: own[(own["along"] == RANDOM) & (own["weight"] == weight)],
    }
    seeds = sorted(set(parts["term"]["seed"]) & set(parts[against]["seed"]))
    return stats.paired_difference(_shares(parts["term"], seeds), _shares(parts[against], seeds))


def _shares(rows: pd.DataFrame, seeds: Sequence[int]) -> np.ndarray:
    """For each fact the share of seeds in which it is kept."""
    return rows[rows["seed"].isin(list(seeds))].groupby("fact")["kept"].mean().to_numpy()


def helps(rows: pd.DataFrame, method: str) -> dict[str, bool]:
    """What the rule asks: more than none, more than random, and whether the term was learned at all."""
    own = whole(rows[rows["method"] == method])
    weight = chosen(rows[rows["method"] == method])
    term = own[(own["along"] == GRADIENT) & (own["weight"] == weight)]
    return {
        "none": bool(difference(rows, method, "none").low > 0),
        RANDOM: bool(difference(rows, method, RANDOM).low > 0),
        "learned": bool(term["gradient"].mean() < own[own["weight"] == 0]["gradient"].mean()),
    }


__all__ = ["METHODS", "Trial", "chosen", "difference", "helps", "make", "study_of", "tried", "whole"]
