"""The answer on its way up: what each layer's residual stream would say if it were the last one.

The lens reads softmax(W_U Norm_final(h_l)) at the prompt's last token, with the model's own final norm, head and
soft-cap (nostalgebraist's logit lens; arXiv 2604.19884, stage "logit lens"). It is a probe: a signal that it shows need
not be used, and one that it does not show may lie in directions the head cannot read yet.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from quantcliff import stats
from quantcliff.probes import Probes
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, batches, likeliest, score_logits, site

GROUPS = ("known", "robust", "failure")
"""Facts that full precision answers; of these, those the 4-bit model of the same method answers too; and the rest."""

VALUES = ("probability", "rank", "entropy", "control")


def measure(study: Study) -> pd.DataFrame:
    """One row per variant ("full" included), group, layer and measure; written to RUN/logit_lens.parquet.

    Columns: variant, method, bits, group_size, group, layer (0-based, the stream after that block), `measure`,
    `estimate`, `low`, `high` (95% interval over prompts), `n`. Measures:

    - probability of the answer (mean), rank_median (1-based), first (share of prompts where the answer is the lens's
      first choice, Wilson), entropy of the lens (mean, nats);
    - control: the mean probability of another fact's answer of the same relation;
    - signal: probability minus control on the same prompts, paired bootstrap.
    """
    control = shuffled_answers(study.known, study.seed)

    def compute(label: str) -> pd.DataFrame:
        method = study.parameters.methods[0] if label == FULL else study.variant(label).method
        groups = study.groups_of(method if method in study.references else next(iter(study.references)))
        groups = groups[groups["known"]].reset_index(drop=True)
        if label == FULL:
            values = read_recorded(study, FULL, study.known, control)
        else:
            values = read(study.runner(label), study.known, control)
        parts = [
            summary({name: array[groups[group].to_numpy()] for name, array in values.items()}, study.seed).assign(
                group=group
            )
            for group in GROUPS
        ]
        return pd.concat(parts, ignore_index=True)

    return study.table("logit_lens", compute, study.labels)


def lens(
    runner: Runner,
    streams: Float[Tensor, "batch layer d_model"],
    answers: Sequence[Sequence[int]],
    control: Sequence[Sequence[int]],
) -> dict[str, Float[np.ndarray, "batch layer"]]:
    """Read last-token residual streams with a model's own head.

    Args:
        answers: token ids of the right answers of each prompt.
        control: token ids of wrong answers to compare with; none gives nan.

    Returns:
        probability and rank (1-based) of the best right answer, entropy (nats), control (probability of the best
        wrong answer given).
    """
    found = {name: np.empty(streams.shape[:2]) for name in VALUES}
    for layer in range(streams.shape[1]):
        logits = runner.unembed(streams[:, layer])
        right = score_logits(logits, answers)
        for name in VALUES:
            found[name][:, layer] = likeliest(logits, control) if name == "control" else right[name]
    return found


def read(
    runner: Runner, probes: Probes, control: Sequence[Sequence[int]], size: int = 64
) -> dict[str, Float[np.ndarray, "prompt layer"]]:
    """`lens` of every prompt, run in batches; row i <-> prompt i."""
    names = [site("resid_post", layer) for layer in range(runner.n_layers)]
    found = {name: np.full((len(probes), runner.n_layers), np.nan) for name in VALUES}
    for batch in tqdm(list(batches(probes, size)), desc=f"lens {runner.model.name}", leave=False, disable=None):
        _, recorded = runner.run(batch.ids, record=names, last=batch.last)
        rows = torch.arange(len(batch.indices))
        streams = torch.stack([recorded[name][rows, batch.last] for name in names], dim=1)
        part = lens(runner, streams, *(_pick(batch.indices, each) for each in (probes.answers, control)))
        for name, values in part.items():
            found[name][batch.indices] = values
    return found


def read_recorded(
    study: Study, label: str, probes: Probes, control: Sequence[Sequence[int]], size: int = 64
) -> dict[str, Float[np.ndarray, "prompt layer"]]:
    """`read` from the streams that a study has recorded, instead of another run."""
    stream, parts = study.last_streams(label, probes), []
    for start in range(0, len(probes), size):
        rows = np.arange(start, min(start + size, len(probes)))
        some = torch.from_numpy(stream[rows])
        parts.append(lens(study.runner(label), some, *(_pick(rows, each) for each in (probes.answers, control))))
    return {name: np.concatenate([part[name] for part in parts]) for name in VALUES}


def shuffled_answers(probes: Probes, seed: int = 0) -> list[list[int]]:
    """For each prompt the answers of another prompt of its relation that share none with its own; [] where none do."""
    random = np.random.default_rng(seed)
    found: list[list[int]] = [[] for _ in range(len(probes))]
    for members in probes.table.groupby("relation", dropna=False).indices.values():
        for index in members:
            others = random.permutation(members)
            own = set(probes.answers[index])
            found[index] = next((probes.answers[other] for other in others if not own & set(probes.answers[other])), [])
    return found


def summary(values: dict[str, Float[np.ndarray, "prompt layer"]], seed: int = 0) -> pd.DataFrame:
    """Means, medians and shares over prompts, by layer; nothing where there is no prompt.

    Args:
        values: probability, rank, entropy and control, as `lens` returns them.

    Returns:
        layer, measure, estimate, low, high, n.
    """
    n, layers = values["rank"].shape
    paired = ~np.isnan(values["control"]).any(axis=1)
    parts = []
    if n:
        parts += [
            _rows("probability", stats.bootstrap_mean(values["probability"], seed), n),
            _rows("entropy", stats.bootstrap_mean(values["entropy"], seed), n),
            _rows("rank_median", stats.median(values["rank"]), n),
        ]
        shares = [stats.share(values["rank"][:, layer] == 1) for layer in range(layers)]
        parts.append(_rows("first", stats.stacked(shares), n))
    if paired.any():
        right, wrong = values["probability"][paired], values["control"][paired]
        parts.append(_rows("control", stats.bootstrap_mean(wrong, seed), len(right)))
        parts.append(_rows("signal", stats.paired_difference(right, wrong, seed), len(right)))
    columns = ["layer", "measure", "estimate", "low", "high", "n"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def signal_layer(table: pd.DataFrame, variant: str, group: str = "known", level: float = 0.5) -> int | None:
    """First layer from which on the lens gives the answer at least `level` of its top-layer probability in *full
    precision*; None if no layer does.
    """
    rows = table[(table["group"] == group) & (table["measure"] == "probability")]
    top = rows[rows["variant"] == FULL].sort_values("layer")["estimate"].iloc[-1]
    own = rows[rows["variant"] == variant].sort_values("layer")
    below = own.loc[own["estimate"] < level * top, "layer"]
    first = 0 if below.empty else int(below.max()) + 1
    return first if first < len(own) else None


def _rows(measure: str, interval: stats.Interval, n: int) -> pd.DataFrame:
    rows = pd.DataFrame(interval._asdict())
    return rows.assign(measure=measure, layer=range(len(rows)), n=n)


def _pick(indices: np.ndarray, lists: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    return [lists[index] for index in indices]
