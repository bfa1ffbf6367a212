"""Does it matter what GPTQ was calibrated on? The same model, quantized on its own text and on one of another kind."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool

from quantcliff import stats
from quantcliff.study import Study

TEXTS = ("self:64x256", "self:21x256", "atlas")
"""What SmolLM2 is calibrated on in this book; a third of it; and sentences that each state a fact, as many tokens as
that third."""

COLUMNS = ["calibration", "measure", "estimate", "low", "high", "n"]


def compare(studies: Iterable[Study]) -> pd.DataFrame:
    """What is kept by each text, and how each differs from the first.

    Args:
        studies: alike but for their calibration; the first one's is what the others are held to. Each is let go before
            the next one is asked for, so that the models of one are in memory at a time.

    Returns:
        variant, method, bits, calibration, measure, estimate, low, high, n. `measure`: kept (share of full precision's
        right answers, Wilson), lost_rank (median rank of the lost ones), difference (kept, beyond the first text's,
        in pairs of prompts; bootstrap), same (share of prompts on which both agree whether the answer is right).
    """
    rows: list[tuple[object, ...]] = []
    first: dict[str, Bool[np.ndarray, " known"]] = {}
    for study in studies:
        for label, variant in study.variants.items():
            about = (label, variant.method, variant.bits, study.parameters.calibration)
            rows += [(*about, *row) for row in _measured(study, label)]
            kept = _kept(study, label)
            if label in first:
                rows.append((*about, "difference", *stats.paired_difference(kept, first[label], study.seed), len(kept)))
                rows.append((*about, "same", *stats.share(kept == first[label]), len(kept)))
            first.setdefault(label, kept)
    return pd.DataFrame(rows, columns=["variant", "method", "bits", *COLUMNS])


def _measured(study: Study, label: str) -> list[tuple[object, ...]]:
    rank = study.known_scores(label)["rank"].to_numpy()
    lost = rank[rank > 1]
    found: list[tuple[object, ...]] = [("kept", *stats.share(rank == 1), len(rank))]
    return [*found, ("lost_rank", *stats.median(lost), len(lost))] if len(lost) else found


def _kept(study: Study, label: str) -> Bool[np.ndarray, " known"]:
    """Which of full precision's right answers are still right."""
    return (study.known_scores(label)["rank"] == 1).to_numpy()

