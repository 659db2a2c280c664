"""Many numbers or texts of one repeated field, one behind the other: read at once.

ONNX writes lists in attributes unpacked, a tag before every number, and a forest of trees has millions of them. What
is not exactly such a run, written as protobuf writes it, is left to the walker, which refuses or reads it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk import protobuf

LEAST = 64
"""Bytes that must be left for a run to be looked for."""

FIRST_LOOK = 512
"""Bytes that are looked at before more are."""

_LONGEST_NUMBER = 10


def run_of(data: memoryview, tag: int) -> tuple[NDArray[Any] | list[bytes], int]:
    """The entries of a field at the beginning of some bytes.

    Args:
        data: Begins with the tag of the first entry; may end anywhere.
        tag: One byte: number and wire type of the field.

    Returns:
        The entries, numbers as float32 or int64, and how many bytes they take; the last entry may be left out.
    """
    match tag & 7:
        case protobuf.FIXED32:
            return _floats(data, tag)
        case protobuf.VARINT:
            return _integers(data, tag)
        case _:
            return _texts(data, tag)


def _floats(data: memoryview, tag: int) -> tuple[NDArray[Any], int]:
    rows = np.frombuffer(data[: len(data) // 5 * 5], np.uint8).reshape(-1, 5)
    count = _first(rows[:, 0] != tag)
    return np.ascontiguousarray(rows[:count, 1:]).view("<f4").reshape(-1), 5 * count


def _integers(data: memoryview, tag: int) -> tuple[NDArray[Any], int]:
    """Tags and numbers take turns; a byte below 0x80 ends either."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    tags, last = ends[0 : len(ends) // 2 * 2 : 2], ends[1::2]
    if not len(tags):
        return np.empty(0, np.int64), 0
    sizes = last - tags
    begins = np.concatenate([[0], last[:-1] + 1])
    padded = (raw[last] == 0) & (sizes > 1)
    # A number of ten bytes is one below zero; its last byte holds one bit.
    wrong = (tags != begins) | (raw[tags] != tag) | padded | (sizes > _LONGEST_NUMBER)
    wrong |= (sizes == _LONGEST_NUMBER) & (raw[last] != 1)
    count = _first(wrong)
    tags, sizes = tags[:count], sizes[:count]
    values = np.zeros(count, np.uint64)
    for place in range(int(sizes.max(initial=0))):
        longer = np.flatnonzero(sizes > place)
        digit = (raw[tags[longer] + 1 + place] & 0x7F).astype(np.uint64)
        values[longer] |= digit << np.uint64(7 * place)
    return values.view(np.int64), int(last[count - 1]) + 1 if count else 0


def _texts(data: memoryview, tag: int) -> tuple[list[bytes], int]:
    held, at, found = bytes(data), 0, list[bytes]()
    while at + 1 < len(held) and held[at] == tag and held[at + 1] < 0x80:
        end = at + 2 + held[at + 1]
        if end > len(held):
            break
        found.append(held[at + 2 : end])
        at = end
    return found, at


def _first(wrong: NDArray[np.bool_]) -> int:
    """How many there are before the first that is wrong."""
    return int(wrong.argmax()) if wrong.any() else len(wrong)
