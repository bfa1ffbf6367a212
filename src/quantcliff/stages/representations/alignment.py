"""Stage 5, representations: is what the network holds in its residual stream still the same?

Two models read the same prompts; H_FP and H_Q are their activations at one layer, one row per prompt (or token), and
E = H_Q - H_FP is the error. Measures (paper arXiv 2604.19884, section on representations; formulas in method.md):

`cka`, `cka_debiased`  linear CKA, full precision layer i against quantized layer j
`subspace`             ||U_k^T V_k||_F^2 / k of the top-k right singular vectors of H_FP and H_Q
`error_share`          share of the energy of E inside the top-k subspace of H_FP
`error_overlap`        ||U_k(H_FP)^T U_k(E)||_F^2 / k
and what is needed to read them (all *chosen* here, not in the paper)
`signal_share`         share of H_FP's own energy inside its top-k subspace: what an error shaped like the signal scores
`error_size`           energy of E over energy of H_FP
`shift_share`          share of the energy of E that is one shift common to all rows
`gain`                 g = <H_FP, H_Q> / <H_FP, H_FP>: how much of the signal is still there, 1 all of it, 0 nothing
`fade_share`           share of the energy of E that is the missing signal (g - 1) H_FP
`residual_share`, `residual_overlap`  like `error_share` and `error_overlap`, of what the fade leaves: H_Q - g H_FP
`signal_directions`, `error_directions`, `residual_directions`  how many directions its energy fills (participation)
Everything follows from streamed second moments (`moments.Cross`), whose size grows with the width
squared and not with rows, or where rows are few from Gram matrices (`views`).
"""

from collections.abc import Sequence

import numpy as np

from quantcliff.stages.representations.moments import Cross
from quantcliff.stages.representations.subspaces import above, participation, random_share
from quantcliff.stages.representations.views import ERROR, OTHER, SIGNAL, Features, Rows

SHARE_OF_WIDTH = 1 / 16
"""Default k over width. A fixed share, so that the chance level k/d is one number for every layer and every model;
a k that explains a fixed share of variance would change from layer to layer and move chance with it."""


def default_k(width: int) -> int:
    """Directions that count as signal unless told otherwise: a sixteenth of the width, at least 1."""
    return max(1, round(width * SHARE_OF_WIDTH))


SUBSPACES = ("subspace", "error_overlap", "residual_overlap")
"""Measures that set two sets of directions against each other."""


def aligned(xx: Cross, yy: Cross, xy: Cross, ks: Sequence[int], centred: bool) -> dict[tuple[str, int | None], float]:
    """`described` from the moments of one layer of both models, x full precision, y quantized."""
    return described(Features.of(xx, yy, xy, centred), ks, centred)


def described(
    view: Features | Rows, ks: Sequence[int], centred: bool, subspaces: Sequence[str] = SUBSPACES
) -> dict[tuple[str, int | None], float]:
    """The measures of one layer of both models, by name and k (None where a measure has no k).

    Where the error is zero or too small for float64, or there are fewer than k directions, the measures that need them
    are NaN.

    Args:
        subspaces: measures of `SUBSPACES` to give; each takes an eigenproblem of its own.
    """
    energy, size = (above(view.energy(of), view.floor) for of in (SIGNAL, ERROR))
    gain = view.energy(SIGNAL, OTHER) / energy
    residual = (-gain, 1.0)
    values: dict[tuple[str, int | None], float] = {
        ("error_size", None): view.energy(ERROR) / energy,
        ("gain", None): gain,
        ("fade_share", None): (1 - gain) ** 2 * energy / size,
    }
    if not centred:
        values["shift_share", None] = view.common() / view.n / size
    u = view.basis(SIGNAL, max(ks))
    for name, of in (("signal", SIGNAL), ("error", ERROR), ("residual", residual)):
        values[f"{name}_directions", None] = participation(view.form(of, of), view.floor)
        shares = view.share(u, of)
        values |= {(f"{name}_share", k): float(shares[k - 1]) for k in ks}
    against = {"subspace": OTHER, "error_overlap": ERROR, "residual_overlap": residual}
    for name in subspaces:
        basis = view.basis(against[name], max(ks))
        values |= {(name, k): view.overlap(u, basis, k) for k in ks}
    return values


def chance_of(
    measure: str, k: int | None, values: dict[tuple[str, int | None], float], width: int, n: int
) -> tuple[float, float, float]:
    """Chance level of a measure and its 95% range, NaN where there is none, given all measures of the layer.

    k/d with the range over random subspaces for what is held against the signal's subspace; 1/n for `shift_share`,
    which is what n independent errors around zero give.
    """
    if measure == "shift_share":
        return 1 / n, np.nan, np.nan
    if k is None or measure == "signal_share":
        return np.nan, np.nan, np.nan
    if measure in ("subspace", "error_overlap", "residual_overlap"):
        return random_share(k, width, float(k))
    return random_share(k, width, values[measure.replace("share", "directions"), None])
