"""Which single number says beforehand how many answers a quantized model keeps?

A number is judged where it was not fitted: on a model that was left out, and on a method that was left out. The fit is
isotonic (more of it keeps no fewer answers; no form is assumed); a logistic curve stands beside it. The error is the
mean distance of the predicted share of answers kept from the true one, over the cells left out, every group left out
counting the same. The best number is the one of `NUMBERS` with the smallest mean error of both ways of leaving out.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from jaxtyping import Float
from scipy.stats import spearmanr
from sklearn.isotonic import IsotonicRegression
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from quantcliff.errors import InputError
from quantcliff.stages.boundary.numbers import NUMBERS

AFTER = ("scaled_kappa", "fact_snr", "sign_flips", "cka", "fed")
"""Numbers that need facts, for comparison."""

WAYS = ("model", "method")
"""What is left out."""

CONSTANT = "nothing"
"""The mean of the other cells: what a number must beat."""

LEAST = 1e-6

Values = Float[np.ndarray, " cell"]


def rising(values: pd.Series) -> Values:
    """A number's values, of which more is better: negative sign flips, the negative logarithm of a divergence."""
    found = values.to_numpy(float)
    if values.name == "text_kl":
        return -np.log(np.maximum(found, LEAST))
    return -found if values.name == "sign_flips" else found


@dataclass(frozen=True, eq=False)
class Curve:
    """Answers kept as a function of a number, fitted on some cells; `form` is "isotonic" or "logistic"."""

    number: str
    x: Values
    kept: Values
    form: str = "isotonic"

    @classmethod
    def of(cls, grid: pd.DataFrame, number: str, form: str = "isotonic") -> "Curve":
        x = np.zeros(len(grid)) if number == CONSTANT else rising(grid[number])
        return cls(number, x, grid["kept"].to_numpy(float), form)

    def at(self, x: Values) -> Values:
        """Predicted share of answers kept, from values as `rising` gives them."""
        if self.number == CONSTANT:
            return np.full(len(x), self.kept.mean())
        if self.form == "isotonic":
            return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(self.x, self.kept).predict(x)
        design = sm.add_constant(self.x, has_constant="add")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerfectSeparationWarning)
            fit = sm.GLM(self.kept, design, family=sm.families.Binomial()).fit()
        return fit.predict(sm.add_constant(x, has_constant="add"))


def left_out(grid: pd.DataFrame, number: str, way: str, form: str = "isotonic") -> pd.DataFrame:
    """Every cell predicted from the cells of the other models (or methods).

    Returns:
        left_out (the group), cell, kept, predicted; one row per cell.

    Raises:
        InputError: there are not two groups.
    """
    if grid[way].nunique() < 2:
        raise InputError(f"all cells have one {way}; to leave one out there must be two")
    parts = []
    for name, part in grid.groupby(way, sort=False):
        rest = grid[grid[way] != name]
        x = np.zeros(len(part)) if number == CONSTANT else rising(part[number])
        predicted = Curve.of(rest, number, form).at(x)
        columns = {"left_out": name, "cell": part["cell"], "kept": part["kept"], "predicted": predicted}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def compare(grid: pd.DataFrame) -> pd.DataFrame:
    """Every number, by every way of leaving out.

    Returns:
        number, needs_facts, way, left_out (a group), n, error (mean absolute, share of answers), worst (90% of the
        cells are nearer), order (Spearman correlation with answers kept inside the group), logistic (error of that
        form).
    """
    rows = []
    for number in (CONSTANT, *NUMBERS, *AFTER):
        for way in WAYS:
            curves = {form: left_out(grid, number, way, form) for form in ("isotonic", "logistic")}
            for name, part in curves["isotonic"].groupby("left_out", sort=False):
                off = (part["predicted"] - part["kept"]).abs()
                other = curves["logistic"][curves["logistic"]["left_out"] == name]
                own = grid[grid[way] == name]
                order = np.nan if number == CONSTANT else float(spearmanr(rising(own[number]), own["kept"]).statistic)
                rows.append({
                    "number": number, "needs_facts": number in AFTER, "way": way, "left_out": name, "n": len(part),
                    "error": float(off.mean()), "worst": float(off.quantile(0.9)), "order": order,
                    "logistic": float((other["predicted"] - other["kept"]).abs().mean()),
                })  # fmt: skip
    return pd.DataFrame(rows)


def ranking(compared: pd.DataFrame) -> pd.DataFrame:
    """One row per number: needs_facts, the mean errors `model` and `method`, and their mean `error`, best first."""
    means = compared.pivot_table(index=["number", "needs_facts"], columns="way", values="error").reset_index()
    means["error"] = means[list(WAYS)].mean(axis=1)
    return means.rename_axis(columns=None).sort_values("error", ignore_index=True)


def best(compared: pd.DataFrame) -> str:
    """The best of `NUMBERS`."""
    ranked = ranking(compared)
    return str(ranked.loc[ranked["number"].isin(NUMBERS), "number"].iloc[0])
