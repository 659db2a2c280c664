"""Windows of consecutive records, for networks that look at what came before.

A window's label is that of its **newest** record: that is the record a detector on the wire has to judge when it
arrives, with its predecessors as what is known by then. (A label such as "an attack anywhere in the window" would raise
an alarm for T records in a row, and says of none of them that it is one.)

Windows hold records that stand next to one another in the source, never across a gap that a split left, and splits for
windows are made of blocks (`load_splits(block=…)`), so that no record is in windows of two splits.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hauberk.data.dataset import Dataset
from hauberk.errors import InputError

BLOCK_WINDOWS = 16
"""Blocks of a split are this many windows long: at most a sixteenth of all windows is lost at their ends."""


def newest_records(dataset: Dataset, window: int, stride: int = 1) -> NDArray[np.int64]:
    """Which records end a window of consecutive ones.

    Args:
        dataset: N records, in the order of their source.
        window: T, records of a window.
        stride: Take every how-manieth window of those that there are.

    Returns:
        Int64 [M], ascending indices into the data set; each has its T - 1 predecessors right before it.

    Raises:
        InputError: A window or stride below 1, or no run of T consecutive records in the data set.
    """
    if window < 1 or stride < 1:
        raise InputError(f"windows of {window} records at a stride of {stride}; both must be at least 1")
    rows = np.arange(len(dataset)) if dataset.rows is None else dataset.rows
    if len(rows) < window:
        raise _too_few(dataset, window)
    unbroken = rows[window - 1 :] - rows[: len(rows) - window + 1] == window - 1
    newest: NDArray[np.int64] = np.flatnonzero(unbroken)[::stride] + window - 1
    if not len(newest):
        raise _too_few(dataset, window)
    return newest


def windows_of(features: NDArray[np.float32], newest: NDArray[np.int64], window: int) -> NDArray[np.float32]:
    """The windows that end at the given records.

    Args:
        features: Float32 [N, D].
        newest: Int64 [M], what `newest_records` returned.
        window: T.

    Returns:
        Float32 [M, T, D], oldest record first. It is a copy, T times as large as the records of its windows.
    """
    views = sliding_window_view(features, window, axis=0)[newest - (window - 1)]  # [M, D, T]
    return np.ascontiguousarray(views.transpose(0, 2, 1))


def _too_few(dataset: Dataset, window: int) -> InputError:
    return InputError(
        f"{dataset.name}: there are no {window} records in a row among {len(dataset)}; use a shorter window, or split"
        " with load_splits(block=…)"
    )
