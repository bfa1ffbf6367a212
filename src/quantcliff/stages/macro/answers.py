"""What is left of a model after quantization, seen from outside: answers, ranks, probabilities, running text.

Two shapes of loss are told apart (arXiv 2604.19884, "macro"): a *rank drop*, where the answer is no longer first but
still near the top, and a *rank collapse*, where it is lost among thousands of tokens.
"""

from itertools import islice

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from quantcliff import stats
from quantcliff.atlas import Writer, load_facts
from quantcliff.probes import Probes
from quantcliff.quantizers import calibration_text, self_text, sizes_of
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner

GROUPS = ("all", "known", "robust", "failure")
"""Prompts that are looked at: every one; those full precision answers; of these, those the 4-bit model of the same
method answers too; and those it gets wrong."""

BUCKETS = {
    "1": (1, 1),
    "2 to 5": (2, 5),
    "6 to 100": (6, 100),
    "101 to 1,000": (101, 1000),
    "above 1,000": (1001, None),
}
"""Ranks, first and last, that are counted together."""

TEXT_SEED = 424_242
"""Of the running text: neither the training's nor the calibration's."""

DOCUMENTS = 200
OWN_DOCUMENTS = 32
"""Documents that a model writes itself to be read, of the length of its calibration text."""

LONGEST = 512
NUMBERS_AT_ONCE = 2**26


def measure(study: Study) -> pd.DataFrame:
    """One row per variant ("full" included), set of prompts and measure; written to RUN/macro.parquet.

    Columns: variant, method, bits, group_size; `split` and `part` (which prompts: group/robust, band/0, relation/P19,
    text/held-out); `measure`; `estimate`, `low`, `high` (95% interval); `n` (prompts, or documents of text). Measures:

    - accuracy (rank 1), top5, share of each bucket of `BUCKETS` ("rank 2 to 5"): Wilson intervals;
    - lost_in_top5: of the prompts whose answer is not first (their number is `n`), the share with rank 2 to 5;
    - probability of the answer, rank_mean, rank_median (1-based), lost_rank_median (of those not first), kl (nats,
      full precision to this model, at the prompt's last token): bootstrap intervals;
    - accuracy_over_rtn, kl_over_rtn: difference to round-to-nearest at the same bits, paired bootstrap;
    - perplexity of running text: bootstrap over documents; nan where the study has no text.
    """
    documents = running_text(study)

    def compute(label: str) -> pd.DataFrame:
        scores = study.scores(label)
        method = study.parameters.methods[0] if label == FULL else study.variant(label).method
        groups = study.groups_of(method if method in study.references else next(iter(study.references)))
        parts = [_groups(scores, groups, study.seed), _cuts(scores, groups["known"], study.probes)]
        rival = _rtn(study, label)
        if rival:
            parts.append(_over_rtn(scores, study.scores(rival), study.seed))
        parts.append(_text(study, label, documents))
        return pd.concat(parts, ignore_index=True)

    return study.table("macro", compute, study.labels, documents=documents)


def summary(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """All measures over a set of prompts.

    Args:
        scores: one row per prompt with rank (1-based), probability and kl.

    Returns:
        measure, estimate, low, high, n; bootstrap measures are nan where there is no prompt.
    """
    rank = scores["rank"].to_numpy()
    lost = rank[rank > 1]
    found = _shares(rank)
    for name, (first, last) in BUCKETS.items():
        found[f"rank {name}"] = stats.share((rank >= first) & (rank <= (last or np.inf)))
    if len(rank):
        found["probability"] = stats.bootstrap_mean(scores["probability"], seed)
        found["rank_mean"] = stats.bootstrap_mean(rank, seed)
        found["rank_median"] = stats.median(rank)
        found["kl"] = stats.bootstrap_mean(scores["kl"], seed)
    among_lost = {"lost_in_top5": stats.share(lost <= 5)}
    if len(lost):
        among_lost["lost_rank_median"] = stats.median(lost)
    return pd.concat([_rows(found, len(rank)), _rows(among_lost, len(lost))], ignore_index=True)


def majority_guess(probes: Probes) -> float:
    """Accuracy of guessing, for every prompt, the most frequent answer of its relation: the floor of knowing nothing.

    The guesser has seen all answers, so it is at its best.
    """
    first = pd.DataFrame({"relation": probes.table["relation"], "answer": [row[0] for row in probes.answers]})
    return float(
        first.groupby("relation")["answer"].agg(lambda tokens: tokens.value_counts().iloc[0]).sum() / len(probes)
    )


def running_text(study: Study) -> list[str]:
    """Documents whose perplexity is measured; none means that perplexity does not apply.

    The embedded model reads documents drawn like its training text under another seed: single sentences repeat what
    it was trained on, their combination is new. Any other model reads the study's `text`, else other text of its own
    where it wrote its calibration text, else its calibration file (which flatters GPTQ and AWQ, who have seen it).
    """
    if study.parameters.text:
        return calibration_text(study.parameters.text, DOCUMENTS)
    if study.parameters.model == "atlas":
        return list(islice(Writer(load_facts()).texts(TEXT_SEED), DOCUMENTS))
    if sizes := sizes_of(study.parameters.calibration):
        return self_text(study.parameters.model, OWN_DOCUMENTS, sizes[1], TEXT_SEED)
    return [] if study.parameters.calibration == "atlas" else calibration_text(study.parameters.calibration, DOCUMENTS)


def losses(
    logits: Float[Tensor, "batch pos vocab"], ids: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of each document, in nats, summed over its tokens but the first; padding is left out."""
    logprobs = torch.log_softmax(logits[:, :-1].double(), -1)
    each = -logprobs.gather(-1, ids[:, 1:, None].to(logits.device))[..., 0]
    inside = torch.arange(1, ids.shape[1]) < lengths[:, None]
    return (each * inside.to(logits.device)).sum(-1)


def perplexity(losses: Float[np.ndarray, " doc"], tokens: Int[np.ndarray, " doc"], seed: int = 0) -> stats.Interval:
    """exp(nats per predicted token) over all documents, with a bootstrap interval over documents.

    Args:
        losses: summed negative log-likelihood of each document, in nats.
        tokens: how many tokens of it were predicted.
    """
    return stats.bootstrap(
        losses, tokens, statistic=lambda loss, count, axis: np.exp(loss.sum(axis) / count.sum(axis)), seed=seed
    )


def document_losses(runner: Runner, documents: list[list[int]]) -> Float[np.ndarray, " doc"]:
    """`losses` of token id lists, a few at a time, so that the logits of all positions fit into memory."""
    order = sorted(range(len(documents)), key=lambda index: len(documents[index]))
    size = max(1, NUMBERS_AT_ONCE // (runner.vocab * max(map(len, documents))))
    found = np.zeros(len(documents))
    for start in tqdm(range(0, len(order), size), desc="reading text", leave=False, disable=None):
        chosen = order[start : start + size]
        lengths = torch.tensor([len(documents[index]) for index in chosen])
        ids = torch.zeros(len(chosen), int(lengths.max()), dtype=torch.long)
        for row, index in enumerate(chosen):
            ids[row, : lengths[row]] = torch.tensor(documents[index])
        found[chosen] = losses(runner.logits(ids), ids, lengths).cpu().numpy()
    return found


def estimate(table: pd.DataFrame, variant: str, measure: str, part: str = "known", split: str = "group") -> float:
    """One number out of the macro table; nan where it has none."""
    same = (table["variant"] == variant) & (table["measure"] == measure)
    rows = table[same & (table["part"] == part) & (table["split"] == split)]
    return float(rows["estimate"].iloc[0]) if len(rows) else float("nan")


def accuracy_table(table: pd.DataFrame, part: str = "known") -> pd.DataFrame:
    """Accuracy by method (rows) and bits (columns: full, then most to least) out of the macro table, as fractions.

    `part` is a group: on "known" the numbers are the share of full precision's right answers that survive.
    """
    rows = table[(table["split"] == "group") & (table["part"] == part) & (table["measure"] == "accuracy")]
    full = rows["method"] == FULL
    wide = rows[~full].pivot_table(index="method", columns="bits", values="estimate", sort=False)
    wide = wide[sorted(wide.columns, reverse=True)].reset_index()
    wide.insert(1, FULL, rows.loc[full, "estimate"].iloc[0])
    return wide.rename(columns=str)


def _shares(rank: np.ndarray) -> dict[str, stats.Interval]:
    return {"accuracy": stats.share(rank == 1), "top5": stats.share(rank <= 5)}


def _rows(found: dict[str, stats.Interval], n: int) -> pd.DataFrame:
    rows = [{"measure": name, **interval._asdict(), "n": n} for name, interval in found.items()]
    return pd.DataFrame(rows)


def _groups(scores: pd.DataFrame, groups: pd.DataFrame, seed: int) -> pd.DataFrame:
    chosen = {"all": np.ones(len(scores), dtype=bool)} | {name: groups[name].to_numpy() for name in GROUPS[1:]}
    parts = [summary(scores[mask], seed).assign(split="group", part=name) for name, mask in chosen.items()]
    return pd.concat(parts, ignore_index=True)


def _cuts(scores: pd.DataFrame, known: pd.Series, probes: Probes) -> pd.DataFrame:
    """Accuracy and top 5 by popularity band and by relation, of the prompts that full precision answers."""
    parts = []
    for split in ("band", "relation"):
        column = probes.table[split][known.to_numpy()]
        for name, rank in scores["rank"][known.to_numpy()].groupby(column.to_numpy()):
            rows = _rows(_shares(rank.to_numpy()), len(rank))
            parts.append(rows.assign(split=split, part=str(name)))
    return pd.concat(parts, ignore_index=True)


def _rtn(study: Study, label: str) -> str | None:
    """Label of round-to-nearest at the same bits, unless this is it, or there is none."""
    if label == FULL or study.variants[label].method == "rtn":
        return None
    same = [v.label for v in study.variants.values() if v.method == "rtn" and v.bits == study.variants[label].bits]
    return same[0] if same else None


def _over_rtn(scores: pd.DataFrame, rival: pd.DataFrame, seed: int) -> pd.DataFrame:
    found = {
        "accuracy_over_rtn": stats.paired_difference(scores["rank"] == 1, rival["rank"] == 1, seed),
        "kl_over_rtn": stats.paired_difference(scores["kl"], rival["kl"], seed),
    }
    return _rows(found, len(scores)).assign(split="group", part="all")


def _text(study: Study, label: str, documents: list[str]) -> pd.DataFrame:
    encoded = [study.base.tokenizer(text).input_ids[:LONGEST] for text in documents]
    encoded = [ids for ids in encoded if len(ids) > 1]
    found = stats.Interval(float("nan"), float("nan"), float("nan"))
    if encoded:
        tokens = np.array([len(ids) - 1 for ids in encoded])
        found = perplexity(document_losses(study.runner(label), encoded), tokens, study.seed)
    return _rows({"perplexity": found}, len(encoded)).assign(split="text", part="held-out")
