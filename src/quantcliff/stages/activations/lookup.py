"""Is there a third kind of failure, a lookup that fails at one place? The keys, or the values, of one layer left alone.

`rules` says when it would be named.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from quantcliff import stats
from quantcliff.models import serve
from quantcliff.stages.verdict import Pair
from quantcliff.study import Study
from quantcliff.tracing import Runner, score

COLUMNS = ["left", "layer", "estimate", "low", "high", "n"]


def measure(study: Study, label: str, n_prompts: int = 100) -> pd.DataFrame:
    """Answers that a variant with quantized cache lost and that return when one layer's keys, or values, are exact.

    Args:
        label: of a variant whose keys and values are both quantized.

    Returns:
        variant and its columns; left ("keys", "values"), layer, estimate, low, high (Wilson), n. No rows where too few
        answers are lost.
    """

    def compute(label: str) -> pd.DataFrame:
        pair = Pair(study, label, n_prompts, lambda: pd.DataFrame())
        rows = []
        for layer in [] if pair.few else range(pair.n_layers):
            for left in ("keys", "values"):
                back = stats.share(_right(pair, left, layer))
                rows.append((left, layer, *map(float, back), len(pair.lost)))
        return pd.DataFrame(rows, columns=COLUMNS)

    return study.table("activations_lookup", compute, [label], n_prompts=n_prompts)


def _right(pair: Pair, left: str, layer: int) -> np.ndarray:
    served = pair.study.variant(pair.label).served
    assert served
    fields: dict = {f"{left}_left": (layer,)}
    model = replace(pair.study.model(pair.label), served=None)
    return (score(Runner(serve(model, replace(served, **fields))), pair.probes)["rank"] == 1).to_numpy()


def named(table: pd.DataFrame, responds: float) -> bool:
    """Whether the rule asks for a third kind: the network responds, one layer's exact keys bring back half of the lost
    answers, and that layer's exact values do not."""
    wide = table.pivot(index="layer", columns="left", values="estimate")
    return bool(responds >= 0.5 and len(wide) and ((wide["keys"] >= 0.5) & (wide["values"] < 0.5)).any())
