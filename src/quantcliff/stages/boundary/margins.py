"""Margin contraction: by how much quantization shrinks what a right answer is ahead by.

The margin of an answer is its logit less that of the best wrong token: above 0 it is given, from 0 down it is lost. The
model (arXiv 2608.06564; the test is chosen) is m_Q = kappa m_FP + eps, eps ~ N(0, sigma), through the origin, over
facts that full precision answers. It predicts P(lost) = Phi(-kappa m_FP / sigma) for each fact. One half of the facts
fits, the other half tests. `shift` is the same with a constant: a model that ranks all answers low moves all margins
down, which no line through the origin can say.

Facts are chosen by m_FP > 0, which cuts its distribution off; a fit on m_FP is not biased by that, a fit on m_Q would
be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import norm, spearmanr
from torch import Tensor

Margins = Float[np.ndarray, " fact"]

SMALLEST = 1e-9
"""Least standard deviation of the noise, in units of the logits: of a model that differs in nothing."""


def margins(logits: Float[Tensor, "batch vocab"], answers: Sequence[Sequence[int]]) -> Float[Tensor, " batch"]:
    """Logit of the best right answer less that of the best other token."""
    right = torch.zeros_like(logits, dtype=torch.bool)
    for row, tokens in enumerate(answers):
        right[row, list(tokens)] = True
    best = logits.masked_fill(~right, -torch.inf).amax(-1)
    return best - logits.masked_fill(right, -torch.inf).amax(-1)


def spread(logits: Float[Tensor, "batch vocab"]) -> float:
    """Standard deviation of the logits over the vocabulary, mean over prompts: what margins are divided by to be rid of
    a temperature, which moves no rank."""
    return float(logits.double().std(-1).mean())


@dataclass(frozen=True)
class Contraction:
    """A fitted line: m_Q = kappa m_FP + shift + N(0, sigma)."""

    kappa: float
    shift: float
    sigma: float

    @classmethod
    def fit(cls, full: Margins, own: Margins, kappa: float | None = None, shifted: bool = False) -> "Contraction":
        """Least squares, which is maximum likelihood here.

        Args:
            kappa: given, not fitted: 1 is noise alone, 0 is that nothing of full precision's margin is left.
            shifted: fit a constant too.
        """
        if kappa is not None:
            shift = 0.0
        elif shifted:
            varied = full - full.mean()
            kappa = float(varied @ own / (varied @ varied))
            shift = float(own.mean() - kappa * full.mean())
        else:
            kappa, shift = float(full @ own / (full @ full)), 0.0
        rest = own - kappa * full - shift
        return cls(kappa, shift, max(SMALLEST, float(np.sqrt((rest**2).mean()))))

    def lost(self, full: Margins) -> Margins:
        """Predicted probability that each answer is lost."""
        return norm.cdf(-(self.kappa * full + self.shift) / self.sigma)

    def likelihood(self, full: Margins, own: Margins) -> float:
        """Mean log density of margins, in nats a fact."""
        return float(norm.logpdf(own, self.kappa * full + self.shift, self.sigma).mean())


def contraction(full: Margins, own: Margins, seed: int = 0) -> dict[str, float]:
    """What the model of this module says about a quantized model.

    Args:
        full, own: margins of the same facts, full precision's all above 0.

    Returns:
        kappa and sigma (from all facts); predicted (share of the test half that is predicted to be lost, from the other
        half), observed (share of it that is), tested (facts in it), shifted (predicted with a constant);
        likelihood_kappa, _one, _zero and _shift of the test half, nats a fact; order (Spearman correlation of the
        margins).
    """
    half = np.random.default_rng(seed).permutation(len(full)) < len(full) // 2
    tries = {"kappa": {}, "one": {"kappa": 1.0}, "zero": {"kappa": 0.0}, "shift": {"shifted": True}}
    fits = {name: Contraction.fit(full[half], own[half], **how) for name, how in tries.items()}  # type: ignore[arg-type]
    whole = Contraction.fit(full, own)
    found = {
        "kappa": whole.kappa,
        "sigma": whole.sigma,
        "predicted": float(fits["kappa"].lost(full[~half]).mean()),
        "observed": float((own[~half] <= 0).mean()),
        "tested": int((~half).sum()),
        "shifted": float(fits["shift"].lost(full[~half]).mean()),
        "order": float(spearmanr(full, own).statistic),
    }
    return found | {f"likelihood_{name}": fit.likelihood(full[~half], own[~half]) for name, fit in fits.items()}


def slope(own: np.ndarray, full: np.ndarray, axis: int) -> np.ndarray:
    """kappa along an axis, for a bootstrap over facts."""
    return np.asarray((own * full).sum(axis) / (full * full).sum(axis))
