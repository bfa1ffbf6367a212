"""What will happen at which bits, said before any fact is asked: the best number of the grid, and its error."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from quantcliff import models, quantizers
from quantcliff.errors import InputError
from quantcliff.models import Model
from quantcliff.quantizers import Scheme, rounding
from quantcliff.stages.boundary.numbers import measured
from quantcliff.stages.boundary.predictors import Curve, best, compare, left_out, rising
from quantcliff.stages.boundary.readings import Reference
from quantcliff.stages.boundary.texts import batches_of

FEWEST_TOKENS = 64
"""Of text, below which a prediction would rest on too little."""


def check(base: str | Path, schemes: Sequence[Scheme]) -> None:
    """Raises InputError where a model cannot be quantized so, or is quantized already; nothing is loaded."""
    folder = models.folder_of(base)
    if models.quantization_of(folder):
        raise InputError(f"{base} is quantized already; give the full-precision model")
    config = models.config_of(folder)
    for scheme in schemes:
        quantizers.check(scheme, config)


def outlook(
    base: str | Path, text: Sequence[str], schemes: Sequence[Scheme], grid: pd.DataFrame,
    calibration: Sequence[str] = (), device: str = "cpu",
) -> pd.DataFrame:  # fmt: skip
    """Predicted share of answers kept by each quantized model.

    Args:
        text: documents like what the model is used on; the first `texts.TOKENS` tokens are read.
        schemes: plain rounding is done in memory; of other methods a checkpoint is made and thrown away.
        grid: the shipped table, whose cells the curve is fitted on.
        calibration: documents for GPTQ and AWQ.

    Returns:
        method, bits, group_size, average_bits, number (its name), value, kept (predicted share of answers), low, high
        (kept less and plus the error below, within 0 and 1), error (mean distance from the truth on a model that was
        left out, averaged over models), worst (nine cells of ten were nearer), tokens (read).

    Raises:
        InputError: as `check`, or the text has fewer than `FEWEST_TOKENS` tokens.
    """
    check(base, schemes)
    number = best(compare(grid))
    curve, (error, worst) = Curve.of(grid, number), errors(grid, number)
    model = models.load(base, device=device)
    reference = Reference(model, batches_of(model.tokenizer, text), last=False)
    tokens = sum(ids.numel() for ids in reference.batches)
    if tokens < FEWEST_TOKENS:
        raise InputError(f"the text has {tokens} tokens; give one of at least {FEWEST_TOKENS}")
    rows = []
    for scheme in schemes:
        bits = quantizers.average_bits(model.hf.config, scheme)
        value = measured(reference, _quantized(model, base, scheme, calibration, device), bits)[number]
        kept = float(curve.at(rising(pd.Series([value], name=number)))[0])
        rows.append({
            "method": scheme.method, "bits": scheme.bits, "group_size": scheme.group_size, "average_bits": bits,
            "number": number, "value": value, "kept": kept, "low": max(0.0, kept - error),
            "high": min(1.0, kept + error), "error": error, "worst": worst, "tokens": tokens,
        })  # fmt: skip
    return pd.DataFrame(rows)


def errors(grid: pd.DataFrame, number: str) -> tuple[float, float]:
    """Mean error on a model that was left out, averaged over models, and what nine of ten cells stay below."""
    found = left_out(grid, number, "model")
    off = (found["predicted"] - found["kept"]).abs()
    return float(off.groupby(found["left_out"]).mean().mean()), float(off.quantile(0.9))


def _quantized(model: Model, base: str | Path, scheme: Scheme, calibration: Sequence[str], device: str) -> Model:
    """In the units of full precision."""
    if scheme.method == "rtn":
        return rounding.rounded_model(model, scheme)
    with tempfile.TemporaryDirectory() as folder:
        made = quantizers.quantize(base, scheme, calibration, Path(folder))
        return quantizers.unsmoothed(model, models.load(made, device=device, name=scheme.label, base=base))
