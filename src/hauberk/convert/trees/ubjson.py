"""Universal Binary JSON, as XGBoost writes it: the values of JSON with lengths before them, numbers in binary.

A reader for files of strangers: every length is compared with what is left of the file before anything is allocated,
nesting and the number of values are bounded, arrays of numbers become numpy arrays without a copy.

Specification: https://ubjson.org (draft 12).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from hauberk.errors import RefusedModelError

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_SIZES = {marker: np.dtype(kind).itemsize for marker, kind in _NUMBERS.items()}
_FORMATS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_DEEPEST = 64
_MOST_VALUES = 50_000_000


def decode(data: bytes, where: str) -> Any:
    """Decode one value.

    Args:
        data: The whole file.
        where: How messages call it.

    Returns:
        Dictionaries, lists, strings, numbers, truth values, `None`, and numpy arrays for arrays of one kind of number.

    Raises:
        RefusedModelError: It is not, or not only, one such value, or too deep or too large.
    """
    reader = _Reader(data, where)
    value = reader.value(reader.take(1), 0)
    if reader.at != len(data):
        raise reader.damaged("something follows the model")
    return value


class _Reader:
    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        self._values = 0
        self.at = 0

    def damaged(self, what: str) -> RefusedModelError:
        return RefusedModelError(f"{self._where}: damaged UBJSON: {what} at byte {self.at}")

    def take(self, count: int) -> bytes:
        piece = self._data[self.at : self.at + count]
        if len(piece) != count:
            raise self.damaged("the file ends")
        self.at += count
        return piece

    def value(self, marker: bytes, depth: int) -> Any:
        self._values += 1
        if depth > _DEEPEST or self._values > _MOST_VALUES:
            raise self.damaged("nested too deeply, or too many values")
        if marker in _FORMATS:
            return struct.unpack(_FORMATS[marker], self.take(_SIZES[marker]))[0]
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        if marker in (b"S", b"H"):
            return self._text()
        if marker == b"C":
            return self.take(1).decode("latin-1")
        constants: dict[bytes, bool | None] = {b"T": True, b"F": False, b"Z": None}
        if marker in constants:
            return constants[marker]
        raise self.damaged(f"no value begins with {marker!r}")

    def _length(self) -> int:
        marker = self.take(1)
        if marker not in _FORMATS or marker in (b"d", b"D"):
            raise self.damaged("a length that is no whole number")
        length = int(struct.unpack(_FORMATS[marker], self.take(_SIZES[marker]))[0])
        if not 0 <= length <= len(self._data) - self.at:
            raise self.damaged(f"a length of {length}, more than is left")
        return length

    def _text(self) -> str:
        try:
            return self.take(self._length()).decode()
        except UnicodeDecodeError as error:
            raise self.damaged("text that is not UTF-8") from error

    def _object(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        kind, count = self._header()
        while count is None or len(result) < count:
            if count is None and self._ended(b"}"):
                break
            name = self._text()
            if name in result:
                raise self.damaged(f"{name[:40]!r} stands twice in one object")
            result[name] = self.value(kind or self.take(1), depth + 1)
        return result

    def _array(self, depth: int) -> Any:
        kind, count = self._header()
        if kind in _NUMBERS and count is not None:
            if count * _SIZES[kind] > len(self._data) - self.at:
                raise self.damaged(f"an array of {count}, more than is left")
            return np.frombuffer(self.take(count * _SIZES[kind]), dtype=_NUMBERS[kind])
        result: list[Any] = []
        while count is None or len(result) < count:
            if count is None and self._ended(b"]"):
                break
            result.append(self.value(kind or self.take(1), depth + 1))
        return result

    def _ended(self, marker: bytes) -> bool:
        if self._data[self.at : self.at + 1] == marker:
            self.at += 1
            return True
        return False

    def _header(self) -> tuple[bytes, int | None]:
        """The kind that all values of a container have, and how many there are; empty and `None` where not said."""
        kind = b""
        if self._ended(b"$"):
            kind = self.take(1)
            if self._data[self.at : self.at + 1] != b"#":
                raise self.damaged("a container that names the kind of its values and not their number")
        return (kind, self._length()) if self._ended(b"#") else (kind, None)
