"""What can be said of a quantized model before any fact is asked: from weights, and from a text that both models read.

- `average_bits`: bits per weight, scales and zero points counted. The number to beat: it knows no model.
- `weight_snr`: |W|^2 / |W_Q - W|^2, median over modules, decibels. Weights alone.
- `source_snr`: the same under the inputs that the text gives (`budget.Source.snr`). One pass of full precision, for all
  quantized models together.
- `stream_snr`: of the stream that leaves the last layer (`budget.snr`, cleaned), decibels.
- `text_kl`: divergence from full precision's next-token distribution, nats a token.
- `text_agree`: share of tokens at which both models' first choice is the same.
- `text_kappa`: margin contraction (`margins`) of full precision's first choice, logits scaled to equal spread.
- `text_ratio`: kappa over sigma, what a margin is worth in units of its noise.

None needs facts; the last five need a pass of the quantized model.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from quantcliff import models, stats
from quantcliff.models import Model, linears
from quantcliff.stages.boundary.budget import Source, decibels
from quantcliff.stages.boundary.margins import Contraction, margins, spread
from quantcliff.stages.boundary.readings import Read, Reference, final
from quantcliff.tracing import Runner, divergence

NUMBERS = (
    "average_bits", "weight_snr", "source_snr", "stream_snr", "text_kl", "text_agree", "text_kappa", "text_ratio",
)  # fmt: skip
"""In the order of what they cost."""


def sources(base: Model, own: Model, moments: Mapping[str, Tensor]) -> dict[str, Source]:
    """The budget of every linear layer of the decoder, by full module name.

    Args:
        own: in the units of `base` (`quantizers.unsmoothed`).
        moments: E[x x^T] by full module name.
    """
    exact, quantized = dict(base.hf.named_parameters()), dict(own.hf.named_parameters())
    found = {}
    for name in linears(base.hf.config):
        weight = exact[f"{name}.weight"].detach()
        error = quantized[f"{name}.weight"].detach() - weight
        found[name] = Source.of(weight, error, moments[name].to(weight.device))
    return found


def of_weights(found: Mapping[str, Source]) -> dict[str, float]:
    """Medians over modules, in decibels: weight_snr, source_snr, strength, alignment."""
    values = {
        "weight_snr": [one.weight for one in found.values()],
        "source_snr": [one.snr for one in found.values()],
        "strength": [one.strength for one in found.values()],
        "alignment": [one.alignment for one in found.values()],
    }
    return {name: float(np.median(decibels(np.array(ratios)))) for name, ratios in values.items()}


def of_text(full: Read, own: Read) -> dict[str, float]:
    """What two models say to the same tokens: stream_snr, text_kl, text_agree with its interval, text_kappa,
    text_ratio."""
    first = full.logits.argmax(-1)
    answers = first[:, None].tolist()
    theirs, mine = (margins(read.logits, answers).double().numpy() / spread(read.logits) for read in (full, own))
    ahead = theirs > 0
    fit = Contraction.fit(theirs[ahead], mine[ahead])
    agree = stats.share((own.logits.argmax(-1) == first).numpy())
    return {
        "stream_snr": float(decibels(final(full, own, cleaned=True))),
        "text_kl": float(divergence(full.logits, own.logits).mean()),
        "text_agree": float(agree.estimate),
        "text_agree_low": float(agree.low),
        "text_agree_high": float(agree.high),
        "text_kappa": fit.kappa,
        "text_ratio": fit.kappa / fit.sigma,
    }


def measured(reference: Reference, own: Model, average_bits: float) -> dict[str, float]:
    """All of `NUMBERS` of a quantized model beside the base of a reference that reads text."""
    weights = of_weights(sources(reference.base, own, reference.moments))
    text = of_text(reference.full, reference.beside(Runner(models.twin(own))))
    return {"average_bits": average_bits} | weights | text


__all__ = ["NUMBERS", "measured", "of_text", "of_weights", "sources"]
