"""Low-rank compensation of quantization error in the input's eigenspace (EoRA, arXiv 2410.21271).

A module computes W x; quantized it computes W_q x. The best that a correction B A of rank r can do for the inputs that
really occur is to minimise E |(W - W_q - B A) x|^2. With the second moment E[x x^T] = Q L Q^T and S = Q L^(1/2) that is
|(W - W_q) S - B A S|^2, and the answer is the truncated singular value decomposition of (W - W_q) S, times S^-1. Its
singular vectors are taken from the smaller of the two products of that matrix with its own transpose.
Written from the paper; its authors' code has a non-commercial licence.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from quantcliff.errors import InputError
from quantcliff.models import Model, linears
from quantcliff.quantizers import SCALE_BITS

SMALLEST = 1e-7
"""Eigenvalues below this share of the largest count as directions that no input has."""

Moment = Float64[Tensor, "columns columns"]


@torch.no_grad()
def second_moments(
    hf: PreTrainedModel, batches: Iterable[Int[Tensor, "_ _"]], first: int = 0
) -> dict[str, Tensor]:
    """E[x x^T] of the input of every linear layer in the decoder, by full module name, in float64.

    Streamed: memory grows with the square of the width, not with the number of tokens.

    Args:
        hf: a plain model that no `Runner` has wrapped.
        batches: token ids without padding.
        first: number of the first token of a row that counts; 1 leaves out where a model parks its attention.
    """
    sums: dict[str, Tensor] = {}
    count = 0

    def adder(name: str) -> Callable:
        def add(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = args[0][:, first:].flatten(0, -2).double()
            sums[name] = sums.get(name, 0) + rows.T @ rows

        return add

    modules = dict(hf.named_modules())
    handles = [modules[name].register_forward_pre_hook(adder(name)) for name in linears(hf.config)]
    try:
        for ids in batches:
            hf(ids.to(hf.device))
            count += ids[:, first:].numel()
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / count for name, total in sums.items()}


def low_rank(
    error: Float[Tensor, "out columns"], rank: int, moment: Moment | None = None
) -> tuple[Float64[Tensor, "out rank"], Float64[Tensor, "rank columns"]]:
    """Factors B, A of the correction of rank `rank` that is nearest to `error`, W - W_q.

    Args:
        moment: E[x x^T] of the module's inputs: nearest on these inputs (EoRA). None: nearest as a matrix (plain SVD).

    Raises:
        InputError: the rank is below 1 or above what the matrix can have.
    """
    if not 1 <= rank <= min(error.shape):
        raise InputError(
            f"rank {rank} does not fit a weight of {error.shape[0]} x {error.shape[1]}; choose 1 to {min(error.shape)}"
        )
    there, back = _halves(moment)
    seen = error.double() if there is None else error.double() @ there
    rows, columns = seen.shape
    if rows <= columns:
        left = _leading(seen @ seen.T, rank)
        right = left.T @ seen
    else:
        right = _leading(seen.T @ seen, rank).T
        left = seen @ right.T
    return left, right if back is None else right @ back


def _halves(moment: Moment | None) -> tuple[Tensor | None, Tensor | None]:
    """S with S S^T = E[x x^T], of the directions that occur, and its inverse; none where all directions count alike."""
    if moment is None:
        return None, None
    values, vectors = torch.linalg.eigh(moment)
    kept = values > SMALLEST * values[-1]
    root = values[kept].sqrt()
    return vectors[:, kept] * root, (vectors[:, kept] / root).T


def _leading(square: Float64[Tensor, "n n"], count: int) -> Float64[Tensor, "n count"]:
    """Eigenvectors of the largest eigenvalues, the largest first: the singular vectors of what `square` is made of."""
    return torch.linalg.eigh(square)[1][:, -count:].flip(1)


Factors = Mapping[str, tuple[Float64[Tensor, "out rank"], Float64[Tensor, "rank columns"]]]


@torch.no_grad()
def corrections(base: Model, quantized: Model, rank: int, moments: Mapping[str, Tensor] | None = None) -> Factors:
    """`low_rank` of every linear layer of the decoder, by full module name.

    The first r columns of B and rows of A are the correction of the smaller rank r.

    Args:
        base: full precision; `quantized` has to be in its units (see `smoothing.unsmoothed`).
        moments: E[x x^T] by full module name, for EoRA; None for plain SVD, the control.

    Raises:
        InputError: the rank does not fit one of the layers.
    """
    exact, own = dict(base.hf.named_modules()), dict(quantized.hf.named_modules())
    found = {}
    for name in linears(base.hf.config):
        weight, rounded = exact[name].weight, own[name].weight
        assert isinstance(weight, Tensor) and isinstance(rounded, Tensor)
        found[name] = low_rank(weight - rounded, rank, None if moments is None else moments[name])
    return found


@torch.no_grad()
def compensated(quantized: Model, factors: Factors, rank: int) -> Model:
    """`quantized` with the corrections of rank `rank` added; `factors` have that rank or a larger one."""
    hf = copy.deepcopy(quantized.hf)
    corrected = dict(hf.named_modules())
    for name, (left, right) in factors.items():
        own = corrected[name].weight
        assert isinstance(own, Tensor)
        own.add_((left[:, :rank] @ right[:rank]).to(own.dtype))
    return replace(quantized, hf=hf, name=f"{quantized.name}+rank{rank}")


def rank_bits(config: PretrainedConfig, rank: int) -> float:
    """Bits per weight that the factors of `compensated` add, on average over the decoder's linear layers (16 each)."""
    shapes = linears(config).values()
    return rank * SCALE_BITS * sum(rows + columns for rows, columns in shapes) / sum(r * c for r, c in shapes)
