"""A made-up grid of quantized models on one line, for what reads the shipped tables."""

import numpy as np
import pandas as pd

from quantcliff.stages.boundary import Cell, atlas_grid, between_grid, smollm2_grid
from quantcliff.stages.boundary.numbers import NUMBERS


def grid(seed: int = 0) -> pd.DataFrame:
    """All cells, with every column that rules, predictors and charts read; answers kept follow `fact_snr` alone."""
    return _rows([*atlas_grid(), *smollm2_grid()], seed)


def _rows(cells: list[Cell], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for cell in cells:
        snr = 6 * cell.bits - 10 + {"rtn": 0.0, "awq": 0.5, "gptq": 2.0}[cell.method] + rng.uniform(-1, 1)
        kept = float(1 / (1 + np.exp(-(snr - 6) / 2)))
        mode = "intact" if kept > 0.99 else "signal degradation" if kept > 0.3 else "computation collapse"
        rows.append({
            "cell": cell.label, "model": cell.model, "method": cell.method, "bits": cell.bits,
            "group_size": cell.group_size, "damping": cell.damping, "calibration": cell.calibration,
            "kept": kept, "kept_low": kept - 0.02, "kept_high": kept + 0.02, "n": 1000, "mode": mode,
            "fact_snr": snr, "scaled_kappa": snr / 15, "kappa": snr / 14, "sign_flips": 0.3 - snr / 60,
            "cka": snr / 15 + rng.normal(0, 0.01), "fed": min(1.0, 0.8 + snr / 70), "predicted": 1 - kept + 0.01,
            "observed": 1 - kept, "shifted": 1 - kept, "likelihood_kappa": -1.0, "likelihood_one": -2.0,
            "likelihood_zero": -1.5, "likelihood_shift": -0.9, "overfit": 0.7 + rng.uniform(-0.1, 0.1),
            "overfit_share": 0.1, "overfit_most": 1.2, "lost_rank": 5.0, "forms": 0.9, "responds": 0.9,
            **{name: snr + rng.normal(0, 3.0) for name in NUMBERS}, "average_bits": cell.bits + 0.3,
            "text_agree": kept, "text_kl": float(np.exp(-snr / 4)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def between(seed: int = 1) -> pd.DataFrame:
    """The cells between 2.5 and 3 bits, on the same line."""
    return _rows(between_grid(), seed)


def layers(grid: pd.DataFrame, rho: float = 0.0) -> pd.DataFrame:
    """Three layers of each cell."""
    names = ["cell", "model", "method", "bits", "group_size"]
    parts = [grid[names].assign(layer=layer, rho=rho, amplification=1.1, own=0.1, carried=0.2) for layer in range(3)]
    return pd.concat(parts, ignore_index=True)
