"""Are the stored weights the base's, rounded? The check for a *format bug*.

A model that prints garbage may have too few bits, or it may be stored wrongly: scales of another layer, zero points off
by one, groups in the wrong order. Rounding alone has narrow limits, whatever the method: a group's grid spans the
group's own range, and a weight goes to a level near its own value. So each group of the quantized model is laid beside
the same group of the base, and beside what plain rounding at that bit width and group size makes of it:

- *match*: correlation with the base's weights. Another group's weights have about none.
- *stretch*: distance from lowest to highest over that of the rounded base: about 1, or 4 with scales four times too
  large.
- *reach*: the same distance over that of the whole grid: hardly above 1 where GPTQ moves weights about, since they stay
  on it.
- *shift*: mean of the difference to the rounded base, in steps of the grid; 0, or 1 with a zero point off by one.
- *excess*: ||W_Q - W|| / ||round(W) - W|| of a whole module. GPTQ moves weights farther than rounding does, to make up
  for errors, so that above 1 is nothing wrong by itself.

All limits are *chosen*, from what quantizers do and before any model was looked at; they stand below. AWQ rescales
channels; the base is brought into the same units first (`smoothing`). Not seen: a model whose weights were rotated
inside a layer looks like a bug.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from quantcliff.filecheck.rounding import nearest

STRETCH = 2.0
"""A module's median group may be this factor larger or smaller: AutoAWQ's clipping stops at half a group's range."""

STRETCH_ALONE = 3.0
"""The same for a single group, which also has chance in it."""

REACH = 1.25
"""A single group is only called too large if it reaches farther than its grid. Some leeway: GPTQ may lay a group's grid
after it has moved the group's weights, and AWQ's scales are estimated."""

SHIFT = 0.5
"""Rounding moves a weight by half a step at most, so it cannot move the mean of a group by more."""

SHIFT_ALONE = 0.75
"""The same for a single group: half-way to the whole step of a zero point that is off by one."""

FACTOR = 1.1
"""Scales are wrong from this factor on if it explains the error of the group: a fifth of a step at 2 bits."""

EXPLAINED = 1.5
"""Squared error, in units of plain rounding's, that may be left where a cause is said to explain a group's error."""

MATCH = 0.5
"""A module's median match must be half of what rounding leaves: nearer to rounding than to nothing."""

ALARM = 0.001
"""Chance of a false alarm per module where a group is said to hold another group's weights."""

OUTLIER = 6.0
"""A single group is only called wrong if it is this many robust standard deviations from its module's median."""

SUSPECTS = 64
"""Groups of a module, worst match first, that are looked for in other places."""

KINDS = {
    "order": "hold the weights of other groups",
    "values": "have nothing to do with the base's weights",
    "scale": "have the wrong scale",
    "zero point": "have the wrong zero point",
    "error": "lie farther from the base's than rounding explains",
}
"""What may be wrong with groups of weights, in the order in which it is looked for."""


def compare(
    exact: Float[Tensor, "group size"],
    stored: Float[Tensor, "group size"],
    bits: int,
    symmetric: bool,
    kind: str = "int",
) -> pd.DataFrame:
    """One row per group: match, match_rounded, stretch, reach, shift (see the module), same (share of its weights that
    lie on the level that plain rounding gives them), and the squared errors error and error_rounded; error_moved with
    the nearest whole number of steps of shift taken back, error_scaled with the best common factor taken out, and that
    factor.

    A group whose base weights are all equal says nothing and gets the numbers of a perfect one. `kind`: as `nearest`.
    """
    rounded, step = nearest(exact, bits, symmetric, kind)
    empty = exact.std(1, correction=0) < 1e-12
    found = {
        "match": _correlation(stored, exact),
        "match_rounded": _correlation(rounded, exact),
        "stretch": _span(stored) / _span(rounded),
        "reach": _span(stored) / (step * (2**bits - 1)),
        "shift": (stored - rounded).mean(1) / step,
    }
    found["stretch"][_span(rounded) == 0] = 1.0
    for name, perfect in (("match", 1.0), ("match_rounded", 1.0), ("stretch", 1.0), ("reach", 1.0), ("shift", 0.0)):
        found[name] = found[name].nan_to_num(0.0).masked_fill(empty, perfect)
    found["same"] = ((stored - rounded).abs() < step[:, None] / 2).to(exact.dtype).mean(1)
    found["error"] = (stored - exact).pow(2).sum(1)
    moved = stored - (found["shift"].round() * step)[:, None]
    found["error_moved"] = (moved - exact).pow(2).sum(1)
    found["factor"] = _factor(stored, exact)
    found["error_scaled"] = (stored / found["factor"][:, None] - exact).pow(2).sum(1)
    found["error_rounded"] = (rounded - exact).pow(2).sum(1)
    return pd.DataFrame({name: values.numpy() for name, values in found.items()})


def faults(
    groups: pd.DataFrame,
    exact: Float[Tensor, "group size"],
    stored: Float[Tensor, "group size"],
    symmetric: bool = False,
) -> tuple[pd.Series, dict[int, int]]:
    """What is wrong with each group of a module ("" where nothing is), and where the weights of displaced ones belong.

    Args:
        groups: from `compare`.
        symmetric: there are no zero points that could be wrong.

    Returns:
        A key of `KINDS` per group; group -> the group whose weights it holds, for those of kind "order".
    """
    size = exact.shape[1]
    match, rounded, stretch, shift = (groups[name] for name in ("match", "match_rounded", "stretch", "shift"))
    belongs = _displaced(groups, exact, stored)
    z, best = (np.arctanh(values.clip(-0.999999, 0.999999)) * np.sqrt(size - 3) for values in (match, rounded))
    unlike = (z < norm.isf(ALARM)) & (best > 2 * norm.isf(ALARM)) & _outlier(np.arctanh(match.clip(-0.999, 0.999)))
    if match.median() < MATCH * rounded.median():
        unlike |= match < MATCH * rounded
    logs = np.log(stretch.clip(lower=1e-12)).abs()
    wrong = (logs > np.log(STRETCH_ALONE)) & _outlier(stretch) & ((stretch < 1) | (groups["reach"] > REACH))
    if abs(np.log(max(stretch.median(), 1e-12))) > np.log(STRETCH):
        wrong |= logs > np.log(STRETCH)
    moved = (shift.abs() > SHIFT_ALONE) & _outlier(shift)
    if abs(shift.median()) > SHIFT:
        moved |= shift.abs() > SHIFT
    wrong |= (groups["factor"].clip(lower=1e-12).map(np.log).abs() > np.log(FACTOR)) & _explained(groups, "scaled")
    moved |= (shift.round() != 0) & _explained(groups, "moved")
    if symmetric:
        unlike, moved = unlike | (moved & ~wrong), moved & False
    kind = pd.Series("", index=groups.index)
    for name, flags in (("zero point", moved), ("scale", wrong), ("values", unlike)):
        kind[flags] = name
    kind[list(belongs)] = "order"
    return kind, belongs


def excess(groups: pd.DataFrame) -> float:
    """||W_Q - W|| / ||round(W) - W|| over all of these groups."""
    return float(np.sqrt(groups["error"].sum() / max(groups["error_rounded"].sum(), 1e-30)))


def _explained(groups: pd.DataFrame, cause: str) -> pd.Series:
    """Whether a group is worse than rounding, and taking a cause out leaves what rounding leaves, half of its error."""
    left, usual = groups[f"error_{cause}"], EXPLAINED * groups["error_rounded"]
    return (groups["error"] > usual) & (left < usual) & (left < groups["error"] / 4)


def _factor(stored: Tensor, exact: Tensor) -> Tensor:
    """Least-squares factor of each group over the base's; 1 where there is none above 0."""
    factor = (stored * exact).sum(1) / exact.pow(2).sum(1).clamp(min=1e-30)
    return torch.where(factor > 0, factor, torch.ones_like(factor))


def _span(values: Tensor) -> Tensor:
    return values.amax(1) - values.amin(1)


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    a, b = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def _outlier(values: pd.Series) -> pd.Series:
    """Whether each value is far from the median, in robust standard deviations (1.4826 times the median deviation)."""
    away = (values - values.median()).abs()
    return away > OUTLIER * 1.4826 * away.median()


def _displaced(groups: pd.DataFrame, exact: Tensor, stored: Tensor) -> dict[int, int]:
    """Group -> the group of the same module whose base weights it holds, where chance can be excluded."""
    poor = groups.loc[groups["match"] < MATCH * groups["match_rounded"], "match"]
    suspects = poor.nsmallest(SUSPECTS).index.to_list()
    if not suspects:
        return {}
    a, b = (x - x.mean(1, keepdim=True) for x in (stored[suspects], exact))
    a, b = (x / x.norm(dim=1, keepdim=True).clamp(min=1e-30) for x in (a, b))
    found = (a @ b.T).clamp(-0.999999, 0.999999)
    value, index = found.max(1)
    z = torch.atanh(value) * np.sqrt(exact.shape[1] - 3)
    sure = (z > norm.isf(ALARM / found.numel())) & (value > 2 * torch.tensor(poor[suspects].to_list()))
    rows = zip(suspects, index.tolist(), sure.tolist(), strict=True)
    return {group: other for group, other, certain in rows if certain}
