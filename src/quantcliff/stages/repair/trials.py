"""Trials of a repair, and the tidy table they make: accuracy, gain over no repair, gain over a control."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from statsmodels.stats.proportion import proportion_confint

from quantcliff import stats

PARTS = ("known", "robust", "failure", "lost")
"""Known facts; of these, what the method's 4-bit model answers, what it gets wrong, and what this very variant lost."""

COMPARED = ("known", "lost")
"""Parts for which differences are taken: to no repair, and to the control."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One remedy in one setting: what it costs, and which prompts are answered with it."""

    repair: str
    setting: str
    amount: int | float
    """Layers, rank, share of the weights, or alpha."""
    average_bits: float
    right: Float[np.ndarray, " prompt"]
    """1 where the answer has rank 1, else 0; over several random draws, the share of them."""
    control: bool = False
    against: str = ""
    """Setting, of the same repair, of the control it is compared with."""
    tuned: str = ""
    """Part of the validation half on which alpha and layer were chosen; "" where nothing was chosen."""
    layer: float = float("nan")
    """Layer that was amplified, on average over prompts."""
    half: str = ""
    """Half that it is reported on; "" for both, and for all prompts together."""


def halves(failure: Bool[np.ndarray, " prompt"], seed: int) -> Bool[np.ndarray, " prompt"]:
    """Marks a random half of the failures and of the others as validation; the rest is the test half."""
    draw, validation = np.random.default_rng(seed), np.zeros(len(failure), dtype=bool)
    for group in (failure, ~failure):
        rows = draw.permutation(np.flatnonzero(group))
        validation[rows[: len(rows) // 2]] = True
    return validation


def summarise(
    trials: Sequence[Trial], groups: pd.DataFrame, validation: Bool[np.ndarray, " prompt"], seed: int = 0
) -> pd.DataFrame:
    """Tidy rows of trials, the first of which is the variant without any repair.

    Args:
        groups: one row per prompt with the flags known, robust, failure, and its `weight`: how many known facts it
            stands for, where failures were drawn more often than others.

    Returns:
        repair, setting, amount, average_bits, control, tuned, layer; `part` (one of `PARTS`); `half` (all, test,
        validation); `measure`: accuracy (Wilson), and of `COMPARED` parts gain (over no repair) and over_control
        (both paired bootstrap); estimate, low, high, n (prompts, whatever their weight).
    """
    control = {(trial.repair, trial.setting): trial.right for trial in trials}
    groups = groups.assign(lost=trials[0].right == 0)
    masks = {"all": np.ones(len(groups), dtype=bool), "test": ~validation, "validation": validation}
    rows = []
    for trial in trials:
        names = ("repair", "setting", "amount", "average_bits", "control", "tuned", "layer")
        about = {name: getattr(trial, name) for name in names}
        compared = "test" if trial.tuned else "all"
        for half in [trial.half] if trial.half else ["all", "test"]:
            for part in PARTS:
                here = masks[half] & groups[part].to_numpy()
                right, weight = trial.right[here], groups["weight"].to_numpy()[here]
                found = {"accuracy": share(right, weight)}
                if part in COMPARED and half == compared and trial is not trials[0]:
                    found["gain"] = difference(right, trials[0].right[here], weight, seed)
                    if trial.against:
                        rival = control[trial.repair, trial.against][here]
                        found["over_control"] = difference(right, rival, weight, seed)
                for name, interval in found.items():
                    row = {"part": part, "half": half, "measure": name, **interval._asdict(), "n": int(here.sum())}
                    rows.append(about | row)
    return pd.DataFrame(rows)


def share(right: Float[np.ndarray, " prompt"], weight: Float[np.ndarray, " prompt"]) -> stats.Interval:
    """Weighted share with its Wilson interval, for as many prompts as the weights are worth: (sum w)^2 / sum w^2.

    With equal weights that is their number, and the plain Wilson interval. nan where there is no prompt.
    """
    if len(right) == 0:
        return stats.share(right)
    estimate, worth = float(np.average(right, weights=weight)), float(weight.sum() ** 2 / (weight**2).sum())
    low, high = proportion_confint(estimate * worth, worth, method="wilson")
    return stats.Interval(estimate, max(0.0, float(low)), min(1.0, float(high)))


def difference(
    a: Float[np.ndarray, " prompt"],
    b: Float[np.ndarray, " prompt"],
    weight: Float[np.ndarray, " prompt"],
    seed: int = 0,
) -> stats.Interval:
    """Weighted mean of a - b, with a bootstrap interval over prompts; nan where there is no prompt."""

    def mean(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray((values * weights).sum(axis) / weights.sum(axis))

    if len(a) == 0:
        return stats.share(a)
    return stats.bootstrap(a - b, weight, statistic=mean, seed=seed)
