"""Where the error of a stream comes from: a budget of signal to noise, in two exact identities.

A module computes W x, quantized (W + D) x. With the second moment S = E[x x^T] of its inputs (d of them)

    SNR_source = tr(W S W^T) / tr(D S D^T) = |W|^2 / |D|^2 * strength / alignment,
    strength = tr(W S W^T) d / (|W|^2 tr S),   alignment = tr(D S D^T) d / (|D|^2 tr S).

Strength 1: the weights see their inputs as if these had no direction; alignment 1: so does the error, below 1 it
avoids where the inputs are, as GPTQ wants. In decibels the three add up.

A layer f turns the stream h into f(h), quantized g(h') where h' = h + e is already wrong. Its error is a + b with
a = f(h') - f(h), carried through full precision's own weights, and b = g(h') - f(h'), made here. So

    1 / SNR_out = A + B + 2 rho sqrt(A B),
    A = E|a|^2 / E|f(h)|^2 = amplification^2 / SNR_in,   B = E|b|^2 / E|f(h)|^2,

rho the correlation of a and b. The pictures of signal, alignment and propagation are those of arXiv 2608.08188, which
publishes no formula; these are chosen so that nothing is left over. That rho is 0, as noise would have it, is not
assumed but measured.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

TOP = 0.01
"""Share of channels, those of the most energy in full precision, that are left out beside the mean: a few channels that
are the same for every prompt would make any stream look clean."""


@dataclass(frozen=True)
class Source:
    """The budget of one module; all ratios of energies, no unit."""

    weight: float
    strength: float
    alignment: float

    @classmethod
    def of(
        cls, weight: Float[Tensor, "out columns"], error: Float[Tensor, "out columns"],
        moment: Float[Tensor, "columns columns"],
    ) -> "Source":  # fmt: skip
        """From the exact matrix, what quantization adds to it, and E[x x^T] of its inputs."""
        w, d, s = (part.double() for part in (weight, error, moment))
        isotropic = s.trace() / len(s)
        size, wrong = w.square().sum(), d.square().sum()
        return cls(
            float(size / wrong),
            float(energy(w, s) / (size * isotropic)),
            float(energy(d, s) / (wrong * isotropic)),
        )

    @property
    def snr(self) -> float:
        """tr(W S W^T) / tr(D S D^T)."""
        return self.weight * self.strength / self.alignment


def energy(matrix: Float[Tensor, "out columns"], moment: Float[Tensor, "columns columns"]) -> Tensor:
    """tr(M S M^T) = E|M x|^2."""
    return ((matrix @ moment) * matrix).sum()


def decibels(ratio: float | np.ndarray) -> float | np.ndarray:
    """10 log10 of a ratio of energies; infinite where nothing is wrong."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(ratio)


@dataclass(frozen=True)
class Layer:
    """The budget of one layer; `carried` A, `own` B, `rho` (NaN where one of them is 0), and the SNR of what enters."""

    carried: float
    own: float
    rho: float
    entering: float

    @classmethod
    def of(
        cls, before: Float[np.ndarray, "n d"], before_own: Float[np.ndarray, "n d"], after: Float[np.ndarray, "n d"],
        through: Float[np.ndarray, "n d"], after_own: Float[np.ndarray, "n d"],
    ) -> "Layer":  # fmt: skip
        """From streams at the same tokens.

        Args:
            before, after: full precision's, entering and leaving the layer.
            before_own, after_own: the quantized model's.
            through: what full precision's layer makes of `before_own`.
        """
        a, b = through - after, after_own - through
        size = _squares(after)
        both = np.sqrt(_squares(a) * _squares(b))
        rho = float((a.astype(float) * b).sum() / both) if both > 0 else float("nan")
        return cls(_squares(a) / size, _squares(b) / size, rho, snr(before, before_own))

    @property
    def snr(self) -> float:
        """Of the stream that leaves the layer."""
        cross = 2 * self.rho * np.sqrt(self.carried * self.own) if self.carried and self.own else 0.0
        total = self.carried + self.own + cross
        return float(1 / total) if total else float("inf")

    @property
    def amplification(self) -> float:
        """Relative error that full precision's layer hands on, per relative error that enters; NaN where none does."""
        return float(np.sqrt(self.carried * self.entering)) if np.isfinite(self.entering) else float("nan")


def snr(full: Float[np.ndarray, "n d"], own: Float[np.ndarray, "n d"], cleaned: bool = False) -> float:
    """E|h|^2 / E|h' - h|^2 of two streams; `cleaned`: means over rows removed from both, and the top channels left
    out."""
    error = own.astype(float) - full
    if cleaned:
        kept = full.shape[1] - max(1, round(TOP * full.shape[1]))
        channels = np.argsort((full.astype(float) ** 2).sum(0), kind="stable")[:kept]
        full, error = (part[:, channels] - part[:, channels].mean(0) for part in (full, error))
    wrong = _squares(error)
    return float(_squares(full) / wrong) if wrong else float("inf")


def _squares(values: np.ndarray) -> float:
    return float((values.astype(float) ** 2).sum())


def ratio(
    own: Float[Tensor, "out columns"], rounded: Float[Tensor, "out columns"], moment: Float[Tensor, "columns columns"]
) -> float:
    """Energy that a quantizer's error has under these inputs, over that of plain rounding's error; above 1 the
    quantizer did worse than to look at nothing but the weights. Of GPTQ, under the inputs that a model is used on, that
    is the sign of having fitted its calibration text too closely."""
    return float(energy(own.double(), moment.double()) / energy(rounded.double(), moment.double()))

