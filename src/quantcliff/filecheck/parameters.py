"""Every parameter beside the linear layers' weights: norms, biases, embeddings, head, routers.

Quantizers leave them alone, or round embeddings and head. So each is the base's own up to storage in half precision, or
row by row near it; whatever else it holds is not this model's. Smoothing (AWQ, SmoothQuant) changes norms and biases by
factors that other layers take back; the base has been brought into these units before (`quantizers.unsmoothed`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcliff.models import linears, place, stacks

OWN = 2**-7
"""Relative difference that storing a number in bfloat16 explains, with a bit to spare."""

MATCH = 0.5
"""Cosine below which a row is not the base's: 2 bits leave about 0.9, another row has about 0."""

SURE = 0.8
"""Cosine from which on a row is said to be another row of the base."""

SIZE = 2.0
"""A row may be this factor longer or shorter."""

SUSPECTS = 2048
"""Rows, first ones first, that are looked for in other places."""


@dataclass(frozen=True)
class Compared:
    """One parameter. `what`: "norm", "bias", "embeddings", "head" or "other"; `fault` in words, "" where it is clean;
    `elsewhere`: share of its wrong rows that were found in other places of the same parameter.
    """

    name: str
    what: str
    fault: str
    elsewhere: float = 0.0


def compare_all(exact: PreTrainedModel, stored: PreTrainedModel) -> Iterator[Compared]:
    """Every parameter that is neither a linear layer's weight nor a stack of experts.

    Args:
        exact: the base in the quantized model's units.
    """
    weights = {f"{name}.weight" for name in linears(exact.config)} | set(stacks(exact))
    mine, theirs = (dict(hf.named_parameters(remove_duplicate=False)) for hf in (exact, stored))
    ends = {_weight_of(exact.get_output_embeddings()): "head", _weight_of(exact.get_input_embeddings()): "embeddings"}
    seen: set[tuple[int, int]] = set()
    for name in mine:
        if name in weights or name not in theirs:
            continue
        pair = id(mine[name]), id(theirs[name])
        if pair in seen:  # tied in both
            continue
        what = "head" if pair[0] in {one for one, _ in seen} else ends.get(pair[0], _what(name, mine[name]))
        seen.add(pair)
        a, b = (part[name].detach().float() for part in (mine, theirs))
        fault, elsewhere = _rows(a.flatten(1), b.flatten(1)) if a.ndim > 1 else (_numbers(a, b), 0.0)
        yield Compared(name, what, f"{place(name)}: {fault}" if fault else "", elsewhere)


def _weight_of(module: nn.Module | None) -> int:
    return 0 if module is None else id(module.weight)


def _what(name: str, parameter: Tensor) -> str:
    if name.endswith(".bias"):
        return "bias"
    return "norm" if parameter.ndim == 1 and "norm" in name.lower() else "other"


def _numbers(mine: Float[Tensor, " n"], theirs: Float[Tensor, " n"]) -> str:
    """What is wrong with a parameter that is one row of numbers; "" where nothing is."""
    off = (theirs - mine).abs() > OWN * torch.maximum(mine.abs(), mine.square().mean().sqrt())
    if not off.any():
        return ""
    if not theirs.any():
        return "is zero everywhere, the base's is not"
    if (theirs == 1).all():
        return "is one everywhere, the base's is not"
    gain = float((theirs * mine).sum() / mine.square().sum().clamp(min=1e-30))
    return (
        f"{int(off.sum()):,} of its {len(mine):,} numbers are not the base's (largest difference "
        f"{float((theirs - mine).abs().max()):.2g}, {gain:.2f} times the size), and no other layer makes up for it"
    )


def _rows(mine: Float[Tensor, "row d"], theirs: Float[Tensor, "row d"]) -> tuple[str, float]:
    """What is wrong with the rows of a matrix that is hardly ever quantized, and the share found in other places."""
    sizes = mine.norm(dim=1), theirs.norm(dim=1)
    there = sizes[0] > 1e-6 * sizes[0].max()
    cosine = (mine * theirs).sum(1) / (sizes[0] * sizes[1]).clamp(min=1e-30)
    ratio = sizes[1] / sizes[0].clamp(min=1e-30)
    alien = there & (cosine < MATCH)
    large = there & ~alien & ((ratio > SIZE) | (ratio < 1 / SIZE))
    if alien.any():
        belongs = _found(mine, theirs, alien)
        share = len(belongs) / min(int(alien.sum()), SUSPECTS)
        first = int(alien.nonzero()[0])
        words = [f"row {row:,}: that of row {other:,}" for row, other in list(belongs.items())[:2]]
        words = words or [f"row {first:,}: cosine {float(cosine[first]):.2f}"]
        kind = "hold other rows of the base" if share > 0.5 else "have nothing to do with the base's"
        return f"{int(alien.sum()):,} of {len(mine):,} rows {kind} ({'; '.join(words)}, ...)", share
    if large.any():
        first = int(large.nonzero()[0])
        times = f"row {first:,}: {float(ratio[first]):.3g} times"
        return f"{int(large.sum()):,} of {len(mine):,} rows have the wrong size ({times})", 0.0
    return "", 0.0


def _found(mine: Tensor, theirs: Tensor, alien: Bool[Tensor, " row"]) -> dict[int, int]:
    """Row -> the row of the base that it holds, for the first `SUSPECTS` alien rows."""
    rows = alien.nonzero()[:SUSPECTS, 0]
    unit = torch.nn.functional.normalize(mine, dim=1)
    value, index = (torch.nn.functional.normalize(theirs[rows], dim=1) @ unit.T).max(1)
    return {int(row): int(other) for row, other, v in zip(rows, index, value, strict=True) if v > SURE}
