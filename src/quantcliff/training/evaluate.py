"""What the embedded model must show: right in full precision, a small loss at 4 bits, a cliff at 2.

The table is the acceptance table of the model: per method, bits and group size the share of full precision's right
answers that survive, where the lost ones went, and the perplexity of held-out running text.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from quantcliff import stats
from quantcliff.atlas import Writer, load_facts
from quantcliff.quantizers import METHODS
from quantcliff.stages.macro import DOCUMENTS, TEXT_SEED, document_losses, perplexity
from quantcliff.study import FULL, Study

BITS = (8, 4, 3, 2)
KEYS = ["method", "bits", "group_size"]


def evaluate(
    model: str | Path = "atlas",
    methods: Sequence[str] = METHODS,
    bits: Sequence[int] = BITS,
    group_sizes: Sequence[int] = (128,),
    n_facts: int = 2000,
    run: str | Path = "runs/evaluate",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of a candidate for the embedded model, over balanced test prompts of the embedded facts.

    Returns:
        Full precision: band ("all", "0" = most popular fifth ... "4"), accuracy, low, high (Wilson, 95%), n.
        Variants, "full" first: method, bits, group_size; kept, low, high (share of full precision's right answers
        that survive); failures (their number), in_top5 (share of the failures whose answer has rank 2 to 5),
        rank_median and rank_mean (of what full precision answers right, 1-based), perplexity.

    Raises:
        InputError: not a model folder, or a method, bits or group size that does not fit it.
    """
    documents = list(islice(Writer(load_facts()).texts(TEXT_SEED), DOCUMENTS))
    rows: list[dict[str, object]] = []
    full = pd.DataFrame()
    for size in group_sizes:
        study = Study(model=model, method=tuple(methods), bits=tuple(bits), group_size=size, n_facts=n_facts, run=run)
        right = (study.scores(FULL)["rank"] == 1).to_numpy()
        if full.empty:
            full = _accuracy(right, study.probes.table["band"])
            rows.append({"method": FULL, "bits": 32, "group_size": -1, **_loss(study, FULL, right, documents)})
        for label, variant in tqdm(study.variants.items(), desc=f"group size {size}", leave=False, disable=None):
            keys = {"method": variant.method, "bits": variant.bits, "group_size": variant.group_size}
            rows.append({**keys, **_loss(study, label, right, documents)})
    return full, pd.DataFrame(rows)


def _accuracy(right: np.ndarray, band: pd.Series) -> pd.DataFrame:
    groups = {"all": right} | {str(name): right[band == name] for name in sorted(band.dropna().unique())}
    rows = []
    for name, flags in groups.items():
        found = stats.share(flags)
        rows.append({"band": name, "accuracy": found.estimate, "low": found.low, "high": found.high, "n": len(flags)})
    return pd.DataFrame(rows)


def _loss(study: Study, label: str, right: np.ndarray, documents: list[str]) -> dict[str, object]:
    rank = study.scores(label)["rank"].to_numpy()[right]
    kept, lost = stats.share(rank == 1), rank[rank > 1]
    encoded = [study.base.tokenizer(text).input_ids for text in documents]
    tokens = np.array([len(ids) - 1 for ids in encoded])
    return {
        "kept": kept.estimate,
        "low": kept.low,
        "high": kept.high,
        "failures": len(lost),
        "in_top5": float((lost <= 5).mean()) if len(lost) else float("nan"),
        "rank_median": float(np.median(rank)) if len(rank) else float("nan"),
        "rank_mean": float(rank.mean()) if len(rank) else float("nan"),
        "perplexity": float(perplexity(document_losses(study.runner(label), encoded), tokens).estimate),
    }


def requirements(full: pd.DataFrame, variants: pd.DataFrame, vocab: int) -> pd.DataFrame:
    """The lines the embedded model has to meet, each with what was found.

    Args:
        full, variants: the tables of `evaluate`; a line is asked of every method, the last of two methods at least.
        vocab: size of the vocabulary, of which the median rank at 2 bits is a share.

    Returns:
        requirement, found (text), met (bool); lines whose bits were not evaluated are left out.
    """
    overall, bands = full.iloc[0], full.iloc[1:]
    weakest = bands["accuracy"].min()
    lines = [
        ("full precision answers 95%", f"{overall['accuracy']:.1%} of {overall['n']}", overall["accuracy"] >= 0.95),
        ("no popularity band under 80%", f"lowest {weakest:.1%}", weakest >= 0.8),
    ]
    for (bits, size), rows in variants[variants["method"] != FULL].groupby(["bits", "group_size"], sort=False):
        where = f"{bits} bits, " + ("one group per row" if size == -1 else f"groups of {size}")
        if bits == 8:
            lines.append((f"{where}: keep 99.5%", _each(rows, "kept", "{:.1%}"), rows["kept"].min() >= 0.995))
        if bits == 4:
            share = 1 - rows["kept"]
            enough = bool(((rows["failures"] >= 100) & share.between(0.02, 0.3)).all())
            lines.append((f"{where}: 100 failures, 2% to 30%", _each(rows, "failures", "{}"), enough))
            near = _each(rows, "in_top5", "{:.1%}")
            lines.append((f"{where}: 80% of the failures in the top 5", near, rows["in_top5"].min() >= 0.8))
        if bits == 2:
            collapsed = (rows["kept"] <= 0.1) & (rows["rank_median"] > 0.02 * vocab)
            enough = int(collapsed.sum()) >= min(2, len(rows))
            found = f"{_each(rows, 'kept', '{:.1%}')}; median rank {_each(rows, 'rank_median', '{:.0f}')}"
            lines.append(
                (f"{where}: keep 10% at most, median rank above {0.02 * vocab:.0f}, two methods", found, enough)
            )
    return pd.DataFrame(lines, columns=["requirement", "found", "met"]).astype({"met": bool})


def _each(rows: pd.DataFrame, column: str, form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in zip(rows["method"], rows[column], strict=True))
