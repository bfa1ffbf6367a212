"""Recall and computation side by side: in which order do tasks fall with bits, and are the induction heads lost?"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from quantcliff import stats
from quantcliff.probes import tasks
from quantcliff.stages.activations.rules import HEADS
from quantcliff.stages.activations.ways import Way, add
from quantcliff.stages.macro import majority_guess
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner, site

LENGTH = 20
"""Random tokens that are read twice over."""

STRINGS = 12


def falls(study_of: Callable[[str], Study], sources: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """Accuracy in full precision, and the share of it that each variant keeps, for every source of facts.

    Args:
        study_of: from a source of facts to a study of it.
        labels: of the studies' variants.

    Returns:
        task (the source), variant, bits, accuracy, accuracy_low, accuracy_high (all questions, Wilson), floor (chance,
        or what the most frequent answer scores, whichever is more), n; kept, kept_low, kept_high (of the answers that
        full precision gets right), known. Of "full" kept is 1.
    """
    rows = []
    for source in sources:
        study = study_of(source)
        task = tasks.TASKS.get(source.removeprefix(tasks.PREFIX))
        floor = max(task.chance or 0.0 if task else 0.0, majority_guess(study.probes))
        right = (study.scores(FULL)["rank"] == 1).to_numpy()
        for label in [FULL, *labels]:
            own = right if label == FULL else (study.scores(label)["rank"] == 1).to_numpy()
            bits = 16 if label == FULL else study.variant(label).bits
            kept = stats.share(own[right])
            rows.append((source, label, bits, *stats.share(own), floor, len(own), *kept, int(right.sum())))
    names = [f"{name}{end}" for name in ("accuracy", "kept") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["task", "variant", "bits", *names[:3], "floor", "n", *names[3:], "known"])


def beside(falls: pd.DataFrame, recall: str, bits: int) -> dict[str, list[str]]:
    """Tasks that keep more of their answers at that width than recall, fewer, or as many, by both intervals.

    Args:
        falls: of `falls`, with those tasks alone that full precision does better than its floor; recall: its source.

    Returns:
        "more", "fewer", "as many" -> tasks, in the order of the table.
    """
    rows = falls[falls["bits"] == bits].set_index("task")
    own, rest = rows.loc[recall], rows.drop(index=recall)
    more, fewer = rest["kept_low"] > own["kept_high"], rest["kept_high"] < own["kept_low"]
    groups = {"more": more, "fewer": fewer, "as many": ~(more | fewer)}
    return {name: rest.index[of].tolist() for name, of in groups.items()}


def induction(runner: Runner, seed: int = 0) -> Float[np.ndarray, "layer head"]:
    """Attention that each head pays, while it reads a random string again, to what followed the same token before;
    mean over tokens and strings. Chance is about 1 in 30."""
    ids = twice(runner.vocab, seed)
    places = torch.arange(LENGTH - 1)
    found = []
    names = [site("pattern", layer) for layer in range(runner.n_layers)]
    _, seen = runner.run(ids, record=names, last=torch.full((len(ids),), ids.shape[1] - 1))
    for name in names:
        found.append(seen[name][:, :, LENGTH + 1 + places, places + 2].float().mean((0, 2)).cpu().numpy())
    return np.stack(found)


def twice(vocab: int, seed: int = 0) -> Int[torch.Tensor, "string pos"]:
    """Token 0, then random tokens, then the same again."""
    draw = np.random.default_rng(seed)
    string = draw.integers(vocab // 4, vocab, (STRINGS, LENGTH))
    return torch.from_numpy(np.concatenate([np.zeros((STRINGS, 1), dtype=np.int64), string, string], 1))


def heads(study: Study, labels: Sequence[str]) -> pd.DataFrame:
    """Induction heads of full precision (more than `HEADS` of their attention), and what becomes of them.

    Returns:
        variant, layer, head, score, of the heads that are one in full precision.
    """
    full = induction(study.runner(FULL), study.seed)
    chosen = np.argwhere(full > HEADS)
    rows = []
    for label in [FULL, *labels]:
        own = full if label == FULL else induction(study.runner(label), study.seed)
        rows += [(label, int(layer), int(head), float(own[layer, head])) for layer, head in chosen]
    return pd.DataFrame(rows, columns=["variant", "layer", "head", "score"])


COPYING = f"{tasks.PREFIX}induction"


def circuit(study_of: Callable[[str], Study], study: Study, ways: Sequence[Way]) -> pd.DataFrame:
    """What ways of quantizing inputs or cache leave of the induction heads, and of copying.

    Args:
        study_of: as for `falls`.

    Returns:
        way; score, score_low, score_high (mean attention of full precision's induction heads, bootstrap over heads),
        share (of what they pay in full precision), n (heads); kept, kept_low, kept_high (of the strings that full
        precision copies rightly, Wilson), known. No rows where full precision has no such head.
    """
    own, copying = add(study, ways), study_of(COPYING)
    labels = add(copying, ways)
    scores = heads(study, list(own.values())).groupby("variant")["score"]
    right = (copying.scores(FULL)["rank"] == 1).to_numpy()
    rows = []
    for way, label in own.items() if len(scores) else ():
        found = scores.get_group(label).to_numpy()
        share = found.mean() / scores.get_group(FULL).mean()
        kept = stats.share((copying.scores(labels[way])["rank"] == 1).to_numpy()[right])
        mean = map(float, stats.bootstrap_mean(found, study.seed))
        rows.append((way, *mean, share, len(found), *map(float, kept), int(right.sum())))
    names = ["score", "score_low", "score_high", "share", "n", "kept", "kept_low", "kept_high", "known"]
    return pd.DataFrame(rows, columns=["way", *names])
