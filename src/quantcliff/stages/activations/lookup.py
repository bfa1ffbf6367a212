"""Is there a third kind of failure, a lookup that fails at one place? The keys, or the values, of one layer left alone.

`rules` says when it would be named. Values are asked for in the layer alone whose keys bring back most.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from quantcliff import stats
from quantcliff.models import serve
from quantcliff.stages.activations.rules import RETURNS
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
        if pair.few:
            return pd.DataFrame(columns=COLUMNS)

        def row(left: str, layer: int) -> tuple[object, ...]:
            return (left, layer, *map(float, stats.share(_right(pair, left, layer))), len(pair.lost))

        table = pd.DataFrame([row("keys", layer) for layer in range(pair.n_layers)], columns=COLUMNS)
        best = int(table["layer"][table["estimate"].idxmax()])
        return pd.concat([table, pd.DataFrame([row("values", best)], columns=COLUMNS)], ignore_index=True)

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
    both = table.pivot(index="layer", columns="left", values="estimate").dropna()
    return bool(responds >= RETURNS and ((both["keys"] >= RETURNS) & (both["values"] < RETURNS)).any())
