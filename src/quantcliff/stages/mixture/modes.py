"""What is it that an allocation spares: units whose output is noisy, or units that the answer rests on?"""

from collections.abc import Mapping

import pandas as pd
from scipy.stats import mannwhitneyu

from quantcliff.stages.mixture.sensitivity import ALONE

COORDINATES = ("facts", "text", "kept", "kappa", "weight_snr", "source_snr", "strength", "alignment")
"""Of a unit alone at 2 bits: increase of both losses, answers kept, contraction of margins, and its budget in dB."""

SPARED = 4
"""Bits from which on a unit is spared."""


def coordinates(table: pd.DataFrame, widths: Mapping[str, int], bits: int = 2) -> pd.DataFrame:
    """A row per unit: unit, layer, `COORDINATES` alone at these bits, given (bits in the allocation), spared.

    Args:
        table: of `sensitivity.measure`, one model.
        widths: bits by unit.
    """
    rows = table[(table["way"] == ALONE) & (table["bits"] == bits) & (table["unit"] != "")]
    whole = rows[rows["block"] < 0].set_index("unit").drop(columns=["facts", "text"])
    means = rows[rows["block"] >= 0].groupby("unit")[["facts", "text"]].mean()
    found = whole.join(means).loc[list(widths), ["layer", *COORDINATES]].reset_index()
    given = found["unit"].map(widths)
    return found.assign(given=given, spared=given >= SPARED)


def differ(found: pd.DataFrame) -> pd.DataFrame:
    """By coordinate: median of the spared units and of the others, and p of the Mann-Whitney test that they are of one
    distribution."""
    spared, others = found[found["spared"]], found[~found["spared"]]
    rows = []
    for name in COORDINATES:
        p = mannwhitneyu(spared[name], others[name]).pvalue if len(spared) and len(others) else float("nan")
        rows.append((name, spared[name].median(), others[name].median(), float(p)))
    return pd.DataFrame(rows, columns=["coordinate", "spared", "others", "p"])
