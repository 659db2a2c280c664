"""How numbers become 8-bit codes: affine activations, symmetric weights, and the scales of both.

`value = scale * (code - zero_point)`, after Jacob et al. 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877).
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

_INT32 = 2.0**31 - 1
_CPU_INFO = Path("/proc/cpuinfo")
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})

FULL_RANGE = 127
"""Largest magnitude of a weight's code: symmetric, so that -128 is not used."""

REDUCED_RANGE = 63
"""Largest magnitude of a weight's code in 7 bits: two products with uint8 then fit into the int16 that x86 kernels
without VNNI add them in."""

Codes = NDArray[np.uint8] | NDArray[np.int8]


class Affine(NamedTuple):
    """How a tensor is coded: `value = scale * (code - zero_point)`, codes in uint8 or int8 like the zero point."""

    scale: np.float32
    zero_point: np.uint8 | np.int8


def affine(low: float, high: float, *, signed: bool = False) -> Affine:
    """Spread 256 codes over a range, widened to hold zero so that zero is coded exactly.

    A tensor that is zero on every calibration record says nothing about its range; it gets [0, 1].

    Args:
        low: Lowest value.
        high: Highest value.
        signed: Codes from -128 to 127 instead of 0 to 255.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < np.finfo(np.float32).tiny * 255:
        low, high = 0.0, 1.0
    scale = np.float32((high - low) / 255)
    code_of_zero = np.clip(np.rint(-low / float(scale)), 0, 255)
    return Affine(scale, np.int8(code_of_zero - 128) if signed else np.uint8(code_of_zero))


def encode(values: NDArray[np.float32], code: Affine) -> Codes:
    """Codes of values, rounded half to even and saturated, as QuantizeLinear computes them."""
    info = np.iinfo(code.zero_point.dtype)
    steps = np.rint(values / code.scale) + np.float32(code.zero_point)
    codes: Codes = np.clip(steps, info.min, info.max).astype(code.zero_point.dtype)
    return codes


def decode(codes: Codes, code: Affine) -> NDArray[np.float32]:
    """Values of codes, as DequantizeLinear computes them."""
    values: NDArray[np.float32] = (codes.astype(np.int32) - np.int32(code.zero_point)).astype(np.float32) * code.scale
    return values


def weight_scales(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    data_scale: np.float32,
    *,
    axis: int,
    levels: int = FULL_RANGE,
    per_channel: bool = True,
) -> NDArray[np.float32]:
    """One scale an output channel (or one for all, repeated): `max|w| / levels`.

    A scale is raised where the bias, coded with `data_scale * scale`, would not fit into int32 (a channel whose weights
    are all tiny), and is 1 for a channel that is zero throughout.

    Args:
        weight: Float32, any rank.
        bias: Float32 [channels], or `None`.
        data_scale: Scale of the layer's input.
        axis: Axis of the output channels in `weight`.
        levels: Largest code.
        per_channel: One scale a channel; else the largest of them for every channel.

    Returns:
        Float32 [channels].
    """
    rest = tuple(dimension for dimension in range(weight.ndim) if dimension != axis)
    scale = np.abs(weight).max(axis=rest).astype(np.float64) / levels
    empty = scale == 0
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias) / (float(data_scale) * _INT32 * 0.5))
        empty &= bias == 0
    # The bias scale is a product of two scales and must stay a normal float32 number.
    scale = np.maximum(scale, np.finfo(np.float32).tiny * max(1.0, 1.0 / float(data_scale)))
    scale = np.where(empty, 1.0, scale)
    if not per_channel:
        scale = np.full_like(scale, scale[~empty].max() if not empty.all() else 1.0)
    return scale.astype(np.float32)


def encode_weight(
    weight: NDArray[np.float32], scale: NDArray[np.float32], *, axis: int, levels: int = FULL_RANGE
) -> NDArray[np.int8]:
    """Codes of a weight: `clip(rint(w / scale))` with one scale a channel along `axis`."""
    steps = np.rint(weight / along(scale, weight.ndim, axis))
    codes: NDArray[np.int8] = np.clip(steps, -levels, levels).astype(np.int8)
    return codes


def encode_bias(
    bias: NDArray[np.float32], data_scale: np.float32, weight_scale: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """A bias in the unit of the integer sum that it is added to: int32 codes and their scale, sx * sw."""
    scale = data_scale * weight_scale
    codes = np.clip(np.rint(bias.astype(np.float64) / scale), -_INT32, _INT32).astype(np.int32)
    return codes, scale


def along(scale: NDArray[np.float32], rank: int, axis: int) -> NDArray[np.float32]:
    """A vector over channels, shaped to broadcast along `axis` of a tensor of that rank."""
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)


def largest_code(reduced_range: bool | Literal["auto"]) -> int:  # noqa: FBT001 - a step's parameter as it stands
    """`REDUCED_RANGE` where asked for, or where "auto" finds a processor whose 8-bit kernels saturate."""
    reduced = kernels_saturate() if reduced_range == "auto" else reduced_range
    return REDUCED_RANGE if reduced else FULL_RANGE


def kernels_saturate() -> bool:
    """Whether this processor's 8-bit kernels may add two products in a saturating int16 register.

    So do x86 processors without VNNI (or those that cannot be asked), and no others.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686", "x86"):
        return False
    if not _CPU_INFO.is_file():
        return True
    return _VNNI.isdisjoint(_CPU_INFO.read_text(encoding="utf-8", errors="replace").split())
