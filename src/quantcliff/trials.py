"""Trials of a repair, and the tidy table they make: accuracy, gain over no repair, gain over a control."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from quantcliff import stats

PARTS = ("known", "robust", "failure", "lost")
"""Known facts; of these, what the method's 4-bit model answers, what it gets wrong, and what this very variant lost."""


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
        groups: one row per prompt with the flags known, robust, failure.

    Returns:
        repair, setting, amount, average_bits, control, tuned, layer; `part` (one of `PARTS`); `half` (all, test,
        validation); `measure`: accuracy (Wilson), gain (over no repair) and over_control (both paired
        bootstrap); estimate, low, high, n.
    """
    control = {(trial.repair, trial.setting): trial.right for trial in trials}
    groups = groups.assign(lost=trials[0].right == 0)
    masks = {"all": np.ones(len(groups), dtype=bool), "test": ~validation, "validation": validation}
    rows = []
    for trial in trials:
        names = ("repair", "setting", "amount", "average_bits", "control", "tuned", "layer")
        about = {name: getattr(trial, name) for name in names}
        for half in [trial.half] if trial.half else ["all", "test"]:
            for part in PARTS:
                here = masks[half] & groups[part].to_numpy()
                found = {"accuracy": _accuracy(trial.right[here], seed)}
                if trial is not trials[0] and half == (trial.half or "all"):
                    found["gain"] = stats.paired_difference(trial.right[here], trials[0].right[here], seed)
                    if trial.against:
                        rival = control[trial.repair, trial.against]
                        found["over_control"] = stats.paired_difference(trial.right[here], rival[here], seed)
                for name, interval in found.items():
                    row = {"part": part, "half": half, "measure": name, **interval._asdict(), "n": int(here.sum())}
                    rows.append(about | row)
    return pd.DataFrame(rows)


def _accuracy(right: np.ndarray, seed: int) -> stats.Interval:
    whole = bool(np.isin(right, (0, 1)).all())
    return stats.share(right == 1) if whole else stats.bootstrap_mean(right, seed)
