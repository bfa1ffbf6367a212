"""The verdict on healed models, and on an unhealed one that keeps about as many answers."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from quantcliff.stages import components, verdict
from quantcliff.study import Study, Variant

ATTENTION = "attention divergence"
"""Name of the row that the verdict has not: Jensen-Shannon divergence from full precision's attention, mean over heads
and layers at the last token, bits."""


def equal(studies: Sequence[Study], kept: float) -> Variant:
    """The variant, of all these studies, whose share of kept answers is nearest to `kept`."""
    shares = [
        (abs((study.known_scores(label)["rank"] == 1).mean() - kept), variant)
        for study in studies
        for label, variant in study.variants.items()
    ]
    return min(shares, key=lambda pair: pair[0])[1]


def beside(study: Study, folders: Mapping[str, Path], n_prompts: int = 100) -> pd.DataFrame:
    """`verdict.measure` of checkpoints of one base, with a column `model` (a key of `folders`) in front.

    Each has its own folder in RUN/beside, and what is finished is read back. A row `ATTENTION` each is added.
    """
    asked, parts = study.parameters, []
    for name, folder in folders.items():
        own = Study(
            asked.model, quantized=folder, facts=asked.facts, n_facts=asked.n_facts, device=asked.device,
            dtype=asked.dtype, seed=asked.seed, run=study.run / "beside" / folder.name,
        )  # fmt: skip
        table = verdict.measure(own, n_prompts)
        extra = own.table("attention", partial(attention, own, n_prompts=n_prompts), n_prompts=n_prompts)
        parts.append(pd.concat([table, extra], ignore_index=True).assign(model=name))
    whole = pd.concat(parts, ignore_index=True)
    return whole[["model", *(column for column in whole if column != "model")]]


def attention(study: Study, label: str, n_prompts: int) -> pd.DataFrame:
    """One row: how far a variant's attention is from full precision's."""
    found = components.of_variant(study, label, n_prompts)
    rows = found[(found["measure"] == "jsd") & (found["condition"] == "in_situ") & (found["position"] == "last")]
    low, value, high = (float(rows[name].mean()) for name in ("low", "estimate", "high"))
    return pd.DataFrame([{"kind": verdict.SIGNAL, "signal": ATTENTION, "value": value, "low": low, "high": high}])
