"""The whole file: linear layers, all other parameters, settings, what else is quantized, and whether the base fits.

**Not made from this base** is said where weights are off everywhere and nothing is wrong with them in particular. No
quantizer makes the output of most modules worse than plain rounding does: GPTQ lowers that error, AWQ and plain
rounding leave it. A finetune, an adapter merged in or another revision of the base raise it in all modules alike, by
sqrt(1 + (d / r)^2) if they changed the weights by d and rounding changes them by r. So it is said if the error ratio of
the median module is above `ORIGIN`, taken on full precision's inputs and on the model's own; a change that is half as
large as rounding's error is not seen. It is said as well where the embeddings have nothing in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from quantcliff.filecheck import beside, settings
from quantcliff.filecheck.modules import faulty, harmless
from quantcliff.filecheck.parameters import Compared, compare_all
from quantcliff.models import Model
from quantcliff.quantizers import unsmoothed

ORIGIN = 1.15
"""Error ratio of the median module from which on a model was not made from this base: *chosen*, above all rounding."""

ALIKE = 0.9
"""Cosine that the two models' embeddings must have, at 4 bits still 0.99; unrelated or rotated ones have about 0."""


ROWS = 4096
"""Rows of the embeddings that are compared at a time."""


@dataclass(frozen=True)
class Findings:
    """What the files show, in sentences.

    Attributes:
        faults: what is stored wrongly.
        odd: what looks odd and does no harm.
        left_out: what is quantized and was not measured.
        origin: why this is not the base of that model; "" where it is.
        checked: what was looked at and how much of it is clean.
        comparable: whether activations of the two models can be laid beside each other.
    """

    faults: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    origin: str = ""
    checked: str = ""
    comparable: bool = True


def check(
    base: Model, quantized: Model, folder: Path, table: pd.DataFrame, prompts: Sequence[Sequence[int]] = ()
) -> Findings:
    """Everything that can be said of a quantized model's files.

    Args:
        folder: of the quantized model.
        table: of `inspect`.
        prompts: token ids on which input scales are tried out.
    """
    exact = unsmoothed(quantized, base, rounded=False)
    others = list(compare_all(exact.hf, quantized.hf))
    different = settings.differences(base.hf.config, quantized.hf.config)
    scales = list(beside.input_scale_faults(exact, folder, prompts))
    origin = _origin(base, quantized, table, others)
    if origin:  # what is off everywhere is no fault of a module, nor are a few groups that stand out in it
        table = table.assign(fault=table["fault"].where(table["faulty"] > table["groups"] / 2, "").replace("error", ""))
    wrong = [*different.values(), *(one.fault for one in others if one.fault), *faulty(table), *scales]
    return Findings(
        faults=tuple([] if origin and _cosine(base, quantized) < ALIKE else wrong),
        odd=tuple(harmless(table)),
        left_out=tuple(beside.left_out(folder)),
        origin=origin,
        checked=_checked(table, others, len(settings.settings_of(base.hf.config)), len(different)),
        comparable=not set(different) & set(settings.SHAPES),
    )


def _origin(base: Model, quantized: Model, table: pd.DataFrame, others: list[Compared]) -> str:
    start = f"{quantized.name} was not made from {base.name}"
    end = "give the model that was quantized"
    if (cosine := _cosine(base, quantized)) < ALIKE and max((one.elsewhere for one in others), default=0) < 0.5:
        return f"{start}: their embeddings have a cosine of {cosine:.2f}; {end} (a rotated one cannot be compared)"
    own = (table["faulty"] <= table["groups"] / 2) | (table["fault"] == "error")
    ratio = table.loc[own, ["error_ratio", "error_ratio_own"]].min(axis=1).dropna()
    if len(ratio) > len(table) / 2 and ratio.median() > ORIGIN:
        return (
            f"{start} as it stands here: over {len(ratio)} modules the output is {ratio.median():.2f} times as wrong "
            f"as plain rounding makes it (median), with no group, scale or zero point to blame, as after a finetune, "
            f"with an adapter merged in, or from another revision; {end}"
        )
    return ""


def _cosine(base: Model, quantized: Model) -> float:
    """Of the two models' embeddings, taken as one long row each."""
    both = [model.hf.get_input_embeddings().weight.detach() for model in (base, quantized)]
    sums = torch.zeros(3, dtype=torch.float64)
    for rows in zip(*(weight.split(ROWS) for weight in both), strict=True):
        one, other = (part.double().cpu() for part in rows)
        sums += torch.stack([(one * other).sum(), one.pow(2).sum(), other.pow(2).sum()])
    return float(sums[0] / (sums[1] * sums[2]).sqrt().clamp(min=1e-30))


def _checked(table: pd.DataFrame, others: list[Compared], n_settings: int, n_different: int) -> str:
    """`"210 of 210 modules, 61 of 61 norms, embeddings, 14 of 14 settings"`; what is not clean is left out."""

    def count(clean: int, total: int, word: str) -> str:
        return f"{clean} of {total} {word}{'s' if total > 1 else ''}"

    parts = [count(int((table["fault"] == "").sum()), len(table), "module")]
    for word in ("norm", "bias", "other"):
        some = [one for one in others if one.what == word]
        if some:
            name = {"bias": "biase", "other": "other parameter"}.get(word, word) if len(some) > 1 else word
            parts.append(count(sum(not one.fault for one in some), len(some), name))
    parts += [one.what for one in others if one.what in ("embeddings", "head") and not one.fault]
    return ", ".join([*parts, count(n_settings - n_different, n_settings, "setting")])
