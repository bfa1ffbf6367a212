"""Which mixture of task and general text to calibrate on: the traces' choice beside what the mixtures really bring.

h(D) is the vector, over modules, of the trace of the second moment of their inputs on a text D, a mean over tokens. So
it is linear: h of a mixture is the mixture of h. The published criterion takes the mixture whose h has the largest
cosine with h of the task. On a straight line from h(general) to h(task) the cosine with h(task) rises all the way, so
that it can return nothing but the task. Chosen instead: the target is h of all that is to be kept, task and general
text in equal parts, other sentences than those of the mixtures; and diversity counts, as the effective rank (exp of the
entropy of the eigenvalues) of the second moments, a share of their width:

    cos(h(D_alpha), h(target)) - mu (1 - erank(D_alpha) / d).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import f_oneway
from torch import Tensor

from quantcliff.quantizers import Scheme, longest_input, token_batches
from quantcliff.stages.mixture import outcomes
from quantcliff.stages.mixture.arms import Race
from quantcliff.stages.mixture.ranking import tau
from quantcliff.stages.mixture.rules import ALPHAS, MUS
from quantcliff.stages.mixture.sensitivity import Subject
from quantcliff.stages.mixture.texts import blend
from quantcliff.stages.repair.eora import second_moments
from quantcliff.study.shelf import Shelf

TEXT_DRAWS = 3
"""Calibration texts drawn for each mixture."""

TARGET_DRAW = 99
"""Of the text that is to be kept."""


def cosine(one: Float[np.ndarray, " module"], other: Float[np.ndarray, " module"]) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def effective_rank(moment: Float[Tensor, "d d"]) -> float:
    """exp of the entropy of the eigenvalues, as a share of d: 1 where all directions have equal energy, 1/d where one
    has it all."""
    values = torch.linalg.eigvalsh(moment.double()).clamp(min=0)
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp() / len(share))


def seen(subject: Subject, text: Sequence[str], diverse: bool = True) -> tuple[Float[np.ndarray, " module"], float]:
    """Traces of the modules' inputs on a text, and the mean of their effective ranks, or NaN."""
    base = subject.study.base
    batches = token_batches(base.tokenizer, text, longest_input(base.hf.config))
    moments = second_moments(base.hf, [ids for ids in batches if ids.shape[1] > 1], first=1)
    traces = np.array([float(moment.trace()) for moment in moments.values()])
    return traces, float(np.mean([effective_rank(moment) for moment in moments.values()])) if diverse else np.nan


def criteria(
    subject: Subject, alphas: Sequence[float] = ALPHAS, tokens: int = 0, diverse: bool = True
) -> pd.DataFrame:
    """A row per mixture: alpha, to_task (cosine with the pure task's traces), foretold (the same, of the straight line
    between the pure texts), to_kept (cosine with the target's), diversity (effective rank over d).

    Args:
        alphas: 0 and 1 are among them.
        tokens: of each text; the subject's unless told otherwise.
        diverse: the effective rank, which takes the eigenvalues of every module's moments.
    """
    tokens = tokens or subject.sizes.tokens
    kept = seen(subject, blend(subject.study, 0.5, tokens, TARGET_DRAW), diverse=False)[0]
    found = {alpha: seen(subject, blend(subject.study, alpha, tokens), diverse) for alpha in alphas}
    task, general = found[0.0][0], found[1.0][0]
    rows = []
    for alpha, (traces, diversity) in found.items():
        line = alpha * general + (1 - alpha) * task
        rows.append((alpha, cosine(traces, task), cosine(line, task), cosine(traces, kept), diversity))
    return pd.DataFrame(rows, columns=["alpha", "to_task", "foretold", "to_kept", "diversity"])


def scored(criteria: pd.DataFrame, mu: float) -> Float[np.ndarray, " alpha"]:
    """The repaired criterion of each mixture."""
    return (criteria["to_kept"] - mu * (1 - criteria["diversity"])).to_numpy()


def oracle(
    race: Race, bits: Sequence[int] = (3, 2), alphas: Sequence[float] = ALPHAS, draws: int = TEXT_DRAWS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """GPTQ calibrated on each mixture, measured.

    Returns:
        A row per bits, alpha and draw: kept, and the increase of facts and text on the testing half, and of the
        choosing half (`chosen_`). And pairs: bits, alpha, and by measure (see `outcomes.compared`) the difference to
        alpha 0.5, each row's losses averaged over draws first.
    """
    rows, pairs = [], []
    for width in bits:
        found = {alpha: [_tested(race, width, alpha, draw) for draw in range(draws)] for alpha in alphas}
        for alpha, parts in found.items():
            rows += [{"bits": width, "alpha": alpha, "draw": draw} | row for draw, (row, _) in enumerate(parts)]
        whole = {alpha: _mean([answered for _, answered in parts]) for alpha, parts in found.items()}
        for alpha in alphas:
            if alpha != 0.5:
                pairs.append(outcomes.compared(whole[alpha], whole[0.5]).assign(bits=width, alpha=alpha))
    return pd.DataFrame(rows), pd.concat(pairs, ignore_index=True)


def _tested(race: Race, bits: int, alpha: float, draw: int) -> tuple[dict[str, float], pd.DataFrame]:
    subject = race.subject
    scheme, text = Scheme("gptq", bits, subject.group_size), blend(subject.study, alpha, subject.sizes.tokens, draw)
    row: dict[str, float] = {}
    answered = {}
    for prefix, bench in (("", race.tester), ("chosen_", subject.bench)):
        label = f"blend-{prefix or 'test_'}{bits}bit-{alpha:g}-{draw}"
        own = outcomes.outcome(bench, Shelf(subject.study.run), label, [repr(scheme), text],
                               lambda: subject.weights(scheme, text))  # fmt: skip
        exact, here = outcomes.means(race.exact(bench)), outcomes.means(own)
        row |= {f"{prefix}kept": here["kept"]}
        row |= {f"{prefix}{name}": here[name] - exact[name] for name in ("facts", "text")}
        answered[prefix] = own
    return row, answered[""]


def _mean(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The same rows of several models, averaged."""
    return parts[0].assign(**{name: np.mean([part[name] for part in parts], axis=0) for name in ("loss", "right")})


def chosen_mu(criteria: pd.DataFrame, measured: pd.DataFrame, mus: Sequence[float] = MUS) -> float:
    """The weight of diversity whose choice of alpha loses least on the choosing half; the smallest of equals.

    Args:
        measured: of `oracle`, one width.
    """
    criteria, losses = tried(criteria, measured), loss(measured, "chosen_")
    return min(mus, key=lambda mu: (losses.loc[criteria["alpha"].iloc[int(scored(criteria, mu).argmax())]], mu))


def tried(criteria: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The rows of those mixtures that were measured."""
    return criteria[criteria["alpha"].isin(measured["alpha"])]


def loss(measured: pd.DataFrame, prefix: str = "") -> pd.Series:
    """By alpha: increase of facts and of text, each divided by its mean over all mixtures, summed; mean over draws."""
    parts = [measured[f"{prefix}{name}"] / measured[f"{prefix}{name}"].mean() for name in ("facts", "text")]
    return sum(parts).groupby(measured["alpha"]).mean()  # type: ignore[union-attr]


def matters(measured: pd.DataFrame, name: str) -> float:
    """p of a one-way analysis: do the alphas differ by more than the draws at one alpha?"""
    return float(f_oneway(*(part[name] for _, part in measured.groupby("alpha"))).pvalue)


def order(criteria: pd.DataFrame, measured: pd.DataFrame, mu: float) -> float:
    """Kendall tau over alphas of the criterion and the negative loss on the testing half."""
    criteria = tried(criteria, measured)
    return tau(scored(criteria, mu), -loss(measured).loc[criteria["alpha"]].to_numpy())
