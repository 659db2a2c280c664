"""The records that a change is tried on: real ones, the corners of what the schema admits, random ones, extremes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.recipe import Context

_REAL = 4096
_COLUMNS = 128
_RANDOM = 256
_FEWEST = 16
_VALUES = 1 << 22
"""A family holds at most this many numbers (16 MiB), so that images are tried too, only fewer of them."""

_SMALLEST = np.finfo(np.float32).smallest_subnormal
_LARGEST = np.finfo(np.float32).max
_EXTREMES = (0.0, -0.0, _SMALLEST, -_SMALLEST, 1e-39, _LARGEST, -_LARGEST, np.inf, -np.inf, np.nan)


@dataclass(frozen=True)
class Family:
    """Records of one kind: float32 [N, *shape]."""

    name: str
    records: NDArray[np.float32]


def families(context: Context, shape: tuple[int, ...], *, extremes: bool) -> tuple[Family, ...]:
    """The records that verification runs, at most a few thousand, the same ones every time.

    Args:
        context: `calibration` gives the real ones, `bounds` the range of the others, `seed` the random ones.
        shape: Of one record: (D,), (T, D), (C, H, W).
        extremes: Add zeros of both signs, denormals, the largest numbers, infinities and NaN.

    Returns:
        "real": up to 4,096 calibration records, evenly spaced; "boundary": all features low, all high, and a real
        record with one feature at its low or high end, for up to 128 features that can move; "random": 256 uniform
        within the bounds; "extreme" where asked: all features, or half of a real record's, at one extreme value. Of
        large records (images) fewer: a family stays within 4 million numbers.

    Raises:
        InputError: No calibration records, or another shape than the model takes.
    """
    real = context.calibration
    if real.shape[1:] != shape or not len(real):
        raise InputError(
            f"verification: calibration records are {list(real.shape)}; expected at least one of shape {list(shape)}"
        )
    low, high = context.bounds
    if low.shape != shape or high.shape != shape:
        raise InputError(
            f"verification: bounds have shapes {list(low.shape)} and {list(high.shape)}, expected {list(shape)}"
        )
    random = np.random.default_rng(context.seed)
    most = max(_FEWEST, _VALUES // int(np.prod(shape)))
    chosen = real[np.linspace(0, len(real) - 1, min(len(real), _REAL, most)).round().astype(np.int64)]
    result = [
        Family("real", chosen),
        Family("boundary", _boundary(chosen, low, high, random, columns=min(_COLUMNS, most // 2))),
        Family("random", random.uniform(low, high, size=(min(_RANDOM, most), *shape)).astype(np.float32)),
    ]
    if extremes:
        result.append(Family("extreme", _extreme(chosen, random)))
    return tuple(result)


def _boundary(
    real: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    random: np.random.Generator,
    *,
    columns: int,
) -> NDArray[np.float32]:
    """Records at the ends of the range, one feature at a time; features are counted as if records were flat."""
    lowest, highest = low.reshape(-1), high.reshape(-1)
    moving = np.flatnonzero(lowest < highest)
    if len(moving) > columns:
        moving = np.sort(random.choice(moving, columns, replace=False))
    ends = real[random.integers(len(real), size=2 * len(moving))].reshape(2 * len(moving), -1)
    rows = np.arange(len(moving))
    ends[2 * rows, moving] = lowest[moving]
    ends[2 * rows + 1, moving] = highest[moving]
    return np.concatenate([low[None], high[None], ends.reshape(-1, *low.shape)]).astype(np.float32)


def _extreme(real: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    values = np.array(_EXTREMES, dtype=np.float32).reshape(-1, *[1] * (real.ndim - 1))
    everywhere = np.broadcast_to(values, (len(values), *real.shape[1:]))
    somewhere = np.where(random.random(everywhere.shape) < 0.5, everywhere, real[:1])
    return np.concatenate([everywhere, somewhere]).astype(np.float32)
