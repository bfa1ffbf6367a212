"""llama.cpp's K-quants packed by hand: blocks of 256 weights, whose groups' scales are whole numbers too.

The layouts are those that ggml's own structs document; the roundings are plain ones, llama.cpp searches for better.
"""

from typing import NamedTuple

import numpy as np

BLOCK = 256


class Kind(NamedTuple):
    """bits of a code; weights in a group; largest scale; whether groups have a minimum of their own."""

    bits: int
    size: int
    top: int
    has_minimum: bool


KINDS = {
    "Q2_K": Kind(2, 16, 15, True), "Q3_K": Kind(3, 16, 31, False), "Q4_K": Kind(4, 32, 63, True),
    "Q5_K": Kind(5, 32, 63, True), "Q6_K": Kind(6, 16, 127, False),
}  # fmt: skip


def pack(weight: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A matrix as bytes (rows, bytes) and the numbers that they hold (rows, columns), in single precision."""
    kind = KINDS[name]
    groups = weight.astype(np.float32).reshape(-1, BLOCK // kind.size, kind.size)
    codes, scales, minima, halves = (_from_zero if kind.has_minimum else _around_zero)(groups, kind)
    steps = halves[0].astype(np.float32) * scales
    low = halves[1].astype(np.float32) * minima if kind.has_minimum else np.zeros_like(steps)
    numbers = steps[..., None] * codes.astype(np.float32) - low[..., None]
    parts = LAYOUTS[name](codes.reshape(len(codes), BLOCK), scales, minima)
    ends = [half.view(np.uint8).reshape(-1, 2) for half in halves]
    blocks = [*ends, *parts] if name in ("Q4_K", "Q5_K") else [*parts, *ends]
    whole = np.concatenate([part.astype(np.uint8) for part in blocks], 1)
    return whole.reshape(len(weight), -1), numbers.reshape(weight.shape)


def _half(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 1e-7).astype(np.float16)


def _from_zero(groups: np.ndarray, kind: Kind) -> tuple:
    """Codes from 0, a scale and a minimum a group, both multiples of a half-precision number a block."""
    low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
    wanted = (high - low) / (2**kind.bits - 1), -low
    halves = [_half(part.max(1, keepdims=True) / kind.top) for part in wanted]
    scales, minima = (np.clip(np.round(part / half.astype(np.float32)), 0, kind.top).astype(np.float32)
                      for part, half in zip(wanted, halves, strict=True))  # fmt: skip
    step = np.maximum(scales * halves[0].astype(np.float32), 1e-9)[..., None]
    codes = np.round((groups + (minima * halves[1].astype(np.float32))[..., None]) / step)
    return np.clip(codes, 0, 2**kind.bits - 1).astype(np.int64), scales, minima, halves


def _around_zero(groups: np.ndarray, kind: Kind) -> tuple:
    """Codes around 0; the largest weight of a group gets the lowest code, so that scales have a sign."""
    half_range = 2 ** (kind.bits - 1)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)[..., 0]
    wanted = -largest / half_range
    half = _half(np.abs(wanted).max(1, keepdims=True) / kind.top)
    scales = np.clip(np.round(wanted / half.astype(np.float32)), -kind.top, kind.top).astype(np.float32)
    step = (scales * half.astype(np.float32))[..., None]
    codes = np.round(groups / np.where(step == 0, 1, step))
    return np.clip(codes, -half_range, half_range - 1).astype(np.int64), scales, scales, [half]


def _two_bits(codes: np.ndarray) -> np.ndarray:
    """Four numbers of 2 bits a byte, 32 apart, for each half of a block."""
    part = codes.reshape(-1, 2, 4, 32)
    return (part[:, :, 0] | part[:, :, 1] << 2 | part[:, :, 2] << 4 | part[:, :, 3] << 6).reshape(-1, 64)


def _nibbles(codes: np.ndarray) -> np.ndarray:
    """Two numbers of 4 bits a byte, 32 apart, for each quarter of a block."""
    part = codes.reshape(-1, 4, 2, 32)
    return (part[:, :, 0] | part[:, :, 1] << 4).reshape(-1, 128)


def _bit_of_each(ones: np.ndarray) -> np.ndarray:
    """One bit of each weight: byte l holds those of weights l, l + 32, l + 64, ..."""
    return (ones.reshape(-1, 8, 32) << np.arange(8)[:, None]).sum(1)


def _sixes(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Eight scales and eight minima of 6 bits in 12 bytes."""
    sc, low = scales.astype(np.int64), minima.astype(np.int64)
    first = sc[:, :4] | sc[:, 4:] >> 4 << 6
    second = low[:, :4] | low[:, 4:] >> 4 << 6
    return np.concatenate([first, second, sc[:, 4:] & 15 | (low[:, 4:] & 15) << 4], 1)


def _q2(codes: np.ndarray, scales: np.ndarray, minima: np.ndarray) -> list[np.ndarray]:
    return [scales.astype(np.int64) | minima.astype(np.int64) << 4, _two_bits(codes)]


def _q3(codes: np.ndarray, scales: np.ndarray, minima: np.ndarray) -> list[np.ndarray]:
    up, shifted = codes + 4, scales.astype(np.int64) + 32
    low, high = shifted & 15, shifted >> 4
    packed = [low[:, :8] | low[:, 8:] << 4, (high.reshape(-1, 4, 4) << 2 * np.arange(4)[:, None]).sum(1)]
    return [_bit_of_each(up >> 2), _two_bits(up & 3), np.concatenate(packed, 1)]


def _q4(codes: np.ndarray, scales: np.ndarray, minima: np.ndarray) -> list[np.ndarray]:
    return [_sixes(scales, minima), _nibbles(codes)]


def _q5(codes: np.ndarray, scales: np.ndarray, minima: np.ndarray) -> list[np.ndarray]:
    return [_sixes(scales, minima), _bit_of_each(codes >> 4), _nibbles(codes & 15)]


def _q6(codes: np.ndarray, scales: np.ndarray, minima: np.ndarray) -> list[np.ndarray]:
    up = codes + 32
    half = (up & 15).reshape(-1, 2, 2, 64)  # numbers 64 apart share a byte
    return [(half[:, :, 0] | half[:, :, 1] << 4).reshape(-1, 128), _two_bits(up >> 4),
            scales.astype(np.int8).view(np.uint8)]  # fmt: skip


LAYOUTS = {"Q2_K": _q2, "Q3_K": _q3, "Q4_K": _q4, "Q5_K": _q5, "Q6_K": _q6}
