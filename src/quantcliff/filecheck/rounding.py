"""Plain rounding to nearest: what every quantized weight is held against."""

import torch
from jaxtyping import Float
from torch import Tensor


def nearest(
    exact: Float[Tensor, "group size"], bits: int, symmetric: bool, kind: str = "int"
) -> tuple[Float[Tensor, "group size"], Float[Tensor, " group"]]:
    """Each group rounded to nearest on a grid of 2^bits levels over its range (0 included), and the grid's step.

    Args:
        kind: "int" for evenly spaced levels; "float" for those of E4M3 (8 bits) or E2M1 (4 bits), "mx" for the same
            with a power of two for a scale. Their step is that of as many even ones over the same range.
    """
    if kind != "int":
        return _floats(exact, bits, kind)
    low, high = exact.amin(1, True).clamp(max=0), exact.amax(1, True).clamp(min=0)
    top = 2**bits - 1
    if symmetric:
        low, high = -torch.maximum(-low, high), torch.maximum(-low, high)
    step = ((high - low) / top).clamp(min=1e-30)
    zero = torch.full_like(step, 2 ** (bits - 1)) if symmetric else (-low / step).round()
    return ((exact / step + zero).round().clamp(0, top) - zero) * step, step[:, 0]


def _floats(exact: Float[Tensor, "group size"], bits: int, kind: str) -> tuple[Tensor, Tensor]:
    """As compressed-tensors rounds; a second, common scale (NVFP4) is left out, which only rounds the first."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import calculate_qparams, calculate_range

    shared = {"scale_dtype": torch.uint8} if kind == "mx" else {}
    args = QuantizationArgs(
        num_bits=bits, type="float", symmetric=True, strategy="group", group_size=exact.shape[1], **shared
    )
    low, high = exact.amin(1, keepdim=True), exact.amax(1, keepdim=True)
    scale, zero = calculate_qparams(low, high, args)
    bottom, top = calculate_range(args, exact.device)
    return fake_quantize(exact, scale, zero, args), (scale * (top - bottom) / (2**bits - 1))[:, 0]
