"""What would count as what, written down before the grid was run.

Three cells had been measured then, to see that the code runs: plain rounding at 3 bits, GPTQ at 2.5 bits on other text
and AWQ at 2 bits, groups of 64, embedded model. They had shown that kappa can be negative, that a constant helps to
predict what is lost, and that rho was near 0.

One or two (`kinds`), on the embedded model:

- *Two kinds* if two Gaussians are preferred to one by more than 10 in BIC, and by more than in 95% of the sets that
  were drawn from one Gaussian; and by more than in 95% of the sets that were drawn evenly along one bent line; and
  fewer than a tenth of the cells stand in the middle third between the two.
- *A matter of degree* if one Gaussian will do, or if it will not but neither of the other two conditions holds.
- *Undecided* otherwise.
- *The two components are the verdict's modes* if 90% of the cells that its two deciding questions call signal
  degradation stand in one, and 90% of those they call computation collapse in the other.

Margins:

- *Kappa predicts* if over all cells the median distance of predicted from observed losses is at most 3 points
  (published for other models: 1.8, arXiv 2608.06564).
- *It needs a constant* if with one the median distance is smaller by half.
- *It is not noise alone* if from 3 bits down kappa is likelier than kappa = 1 in at least 90% of the cells.
- *At 2 bits nothing is left* if there kappa = 0 is at least as likely as the fitted kappa in half of the cells.
- *The published kappas hold* if its medians at 4, 3 and 2 bits are within .15 of .86, .33 and 0.

Signal to noise:

- *It is enough* if the order of the last stream's SNR is that of answers kept (Spearman above .9) on either model, and
  no method keeps, on average, 5 points more or fewer than others at equal SNR.
- *Errors add like independent noise* if |rho|, averaged over layers and cells of a width, is below .1 at every width.
  Expected to fail at 2 bits.

GPTQ's third mode:

- *It is here* if some GPTQ cell has a median ratio above 1 and keeps fewer answers than plain rounding at the same bits
  and groups, beyond both intervals.
- *The ratio foretells* if over all GPTQ cells the correlation of the ratio with what GPTQ keeps beyond plain rounding
  is below -.5 (Spearman).

Prediction:

- *A number is worth its cost* if the best one (`predictors`) has a smaller error than bits per weight when a model is
  left out, and when a method is.
- *It is good enough* if its error is at most 5 points when a model is left out.

Added when 101 cells of the embedded model had been seen, before the cells it speaks of were run. The two components
were all cells from 3 bits up and all cells from 2.5 bits down, with nothing between them; and in answers kept there was
no cell between 30% and 65%. Nature may have left this gap, or the grid, which steps from 3 bits to 2.5. So 24 cells
were added: plain rounding and GPTQ with 1, 2 and 3 of 8 layers in 2 bits and the others in 3 (`cells.between_grid`).

- *The gap is the grid's* if at least a third of them stand in the middle third of the way between the components, and
  the widest step between neighbours on that way is less than half of what it was without them.
- *The gap stays* if fewer than a tenth of them stand there.
"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import spearmanr

from quantcliff.stages.boundary.kinds import DEGREE, TWO, Kinds, in_middle, standardised, way_of, widest
from quantcliff.stages.boundary.predictors import Curve, best, compare, ranking, rising

PUBLISHED = {4.0: 0.86, 3.0: 0.33, 2.0: 0.0}
"""Medians of kappa by bits, arXiv 2608.06564."""


def rules(grid: pd.DataFrame, layers: pd.DataFrame, found: Kinds, between: pd.DataFrame) -> dict[str, bool]:
    """Every rule, by its name, and whether it holds.

    Args:
        grid, layers, between: of `edition.make`.
        found: of the embedded model's cells.
    """
    kinds = {
        "two kinds": found.verdict == TWO,
        "a matter of degree": found.verdict == DEGREE,
        "the two components are the verdict's modes": _alike(grid, found),
    }
    parts = [kinds, _gap(grid, between, found), _margins(grid), _snr(grid, layers), _third(grid), _prediction(grid)]
    return {name: bool(held) for part in parts for name, held in part.items()}


def between_way(grid: pd.DataFrame, between: pd.DataFrame, found: Kinds) -> Float[np.ndarray, " cell"]:
    """Where the added cells stand on the way between the components of the embedded model's cells."""
    return way_of(standardised(between, grid[grid["model"] == "atlas"]), found.means)


def _gap(grid: pd.DataFrame, between: pd.DataFrame, found: Kinds) -> dict[str, Any]:
    way = between_way(grid, between, found)
    share, before = in_middle(way).mean(), widest(found.way)
    return {
        "the gap is the grid's": share >= 1 / 3 and widest(np.concatenate([found.way, way])) < 0.5 * before,
        "the gap stays": share < 0.1,
    }


def _alike(grid: pd.DataFrame, found: Kinds) -> bool:
    """Of the embedded model's cells."""
    modes = grid.loc[grid["model"] == "atlas", "mode"].to_numpy()
    if not {"signal degradation", "computation collapse"} <= set(modes):
        return False
    first = [(found.members[modes == mode] == 0).mean() for mode in ("signal degradation", "computation collapse")]
    return bool((first[0] >= 0.9 and first[1] <= 0.1) or (first[0] <= 0.1 and first[1] >= 0.9))


def off(grid: pd.DataFrame, column: str = "predicted") -> pd.Series:
    """Distance of predicted from observed losses, share of facts."""
    return (grid[column] - grid["observed"]).abs()


def _margins(grid: pd.DataFrame) -> dict[str, Any]:
    low, two = grid[grid["bits"] <= 3], grid[grid["bits"] == 2]
    medians = grid.groupby("bits")["kappa"].median()
    return {
        "kappa predicts": off(grid).median() <= 0.03,
        "it needs a constant": off(grid, "shifted").median() <= 0.5 * off(grid).median(),
        "it is not noise alone": (low["likelihood_kappa"] > low["likelihood_one"]).mean() >= 0.9,
        "at 2 bits nothing is left": (two["likelihood_zero"] >= two["likelihood_kappa"]).mean() >= 0.5,
        "the published kappas hold": all(abs(medians[bits] - kappa) <= 0.15 for bits, kappa in PUBLISHED.items()),
    }


def at_equal_snr(grid: pd.DataFrame) -> pd.DataFrame:
    """By model and method: mean share of answers kept beyond the isotonic curve over the last stream's SNR that all
    methods of the model share, and the number of cells."""
    parts = []
    for _, part in grid.groupby("model", sort=False):
        beyond = part["kept"] - Curve.of(part, "fact_snr").at(rising(part["fact_snr"]))
        parts.append(part.assign(beyond=beyond).groupby(["model", "method"])["beyond"].agg(["mean", "size"]))
    return pd.concat(parts).reset_index()


def _snr(grid: pd.DataFrame, layers: pd.DataFrame) -> dict[str, Any]:
    orders = [spearmanr(part["fact_snr"], part["kept"]).statistic for _, part in grid.groupby("model")]
    rho = layers.groupby("bits")["rho"].mean().abs()
    return {
        "SNR is enough": min(orders) > 0.9 and bool((at_equal_snr(grid)["mean"].abs() <= 0.05).all()),
        "errors add like independent noise": bool((rho < 0.1).all()),
    }


def beside_rounding(grid: pd.DataFrame) -> pd.DataFrame:
    """GPTQ's cells with `beyond`, what they keep beyond plain rounding of the same model, bits and groups, and whether
    they keep fewer answers beyond both intervals (`worse`)."""
    keys = ["model", "bits", "group_size"]
    plain = grid[grid["method"] == "rtn"].set_index(keys)[["kept", "kept_low"]].add_prefix("plain_")
    gptq = grid[grid["method"] == "gptq"].join(plain, on=keys)
    worse = gptq["kept_high"] < gptq["plain_kept_low"]
    return gptq.assign(beyond=gptq["kept"] - gptq["plain_kept"], worse=worse)


def _third(grid: pd.DataFrame) -> dict[str, Any]:
    gptq = beside_rounding(grid)
    return {
        "the third mode is here": bool(((gptq["overfit"] > 1) & gptq["worse"]).any()),
        "the ratio foretells": float(spearmanr(gptq["overfit"], gptq["beyond"]).statistic) < -0.5,
    }


def _prediction(grid: pd.DataFrame) -> dict[str, bool]:
    compared = compare(grid)
    ranked = ranking(compared).set_index("number")
    number = best(compared)
    first, bits = ranked.loc[number], ranked.loc["average_bits"]
    return {
        "a number is worth its cost": bool(first["model"] < bits["model"] and first["method"] < bits["method"]),
        "it is good enough": bool(first["model"] <= 0.05),
    }


__all__ = ["PUBLISHED", "at_equal_snr", "beside_rounding", "between_way", "off", "rules"]
