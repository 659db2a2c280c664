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

_SMALLEST = np.finfo(np.float32).smallest_subnormal
_LARGEST = np.finfo(np.float32).max
_EXTREMES = (0.0, -0.0, _SMALLEST, -_SMALLEST, 1e-39, _LARGEST, -_LARGEST, np.inf, -np.inf, np.nan)


@dataclass(frozen=True)
class Family:
    """Records of one kind: float32 [N, D]."""

    name: str
    records: NDArray[np.float32]


def families(context: Context, width: int, *, extremes: bool) -> tuple[Family, ...]:
    """The records that verification runs, at most a few thousand, the same ones every time.

    Args:
        context: `calibration` gives the real ones, `bounds` the range of the others, `seed` the random ones.
        width: D, the number of features.
        extremes: Add zeros of both signs, denormals, the largest numbers, infinities and NaN.

    Returns:
        "real": up to 4,096 calibration records, evenly spaced; "boundary": all columns low, all high, and a real record
        with one column at its low or high end, for up to 128 columns that can move; "random": 256 uniform within the
        bounds; "extreme" where asked: all columns, or half of a real record's, at one extreme value.

    Raises:
        InputError: No calibration records, or another number of columns than the model takes.
    """
    real = context.calibration
    if real.ndim != 2 or not len(real) or real.shape[1] != width:
        shape = list(real.shape)
        raise InputError(f"verification: calibration records are {shape}; expected at least one with {width} columns")
    low, high = context.bounds
    if low.shape != (width,) or high.shape != (width,):
        raise InputError(
            f"verification: bounds have shapes {list(low.shape)} and {list(high.shape)}, expected [{width}]"
        )
    random = np.random.default_rng(context.seed)
    chosen = real[np.linspace(0, len(real) - 1, min(len(real), _REAL)).round().astype(np.int64)]
    result = [
        Family("real", chosen),
        Family("boundary", _boundary(chosen, low, high, random)),
        Family("random", random.uniform(low, high, size=(_RANDOM, width)).astype(np.float32)),
    ]
    if extremes:
        result.append(Family("extreme", _extreme(chosen, random)))
    return tuple(result)


def _boundary(
    real: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], random: np.random.Generator
) -> NDArray[np.float32]:
    columns = np.flatnonzero(low < high)
    if len(columns) > _COLUMNS:
        columns = np.sort(random.choice(columns, _COLUMNS, replace=False))
    ends = real[random.integers(len(real), size=2 * len(columns))]
    rows = np.arange(len(columns))
    ends[2 * rows, columns] = low[columns]
    ends[2 * rows + 1, columns] = high[columns]
    return np.concatenate([low[None], high[None], ends]).astype(np.float32)


def _extreme(real: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    values = np.array(_EXTREMES, dtype=np.float32)[:, None]
    everywhere = np.repeat(values, real.shape[1], axis=1)
    somewhere = np.where(random.random(everywhere.shape) < 0.5, everywhere, real[:1])
    return np.concatenate([everywhere, somewhere]).astype(np.float32)
