"""Universal Binary JSON, as XGBoost writes it: bounded, with arrays of numbers kept as arrays.

Format: https://ubjson.org; numbers have their most significant byte first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination

_TYPES = {
    ord("i"): (">i1", 1),
    ord("U"): (">u1", 1),
    ord("I"): (">i2", 2),
    ord("l"): (">i4", 4),
    ord("L"): (">i8", 8),
    ord("d"): (">f4", 4),
    ord("D"): (">f8", 8),
}
_PLAIN = {ord("Z"): None, ord("T"): True, ord("F"): False}
_DEPTH = 64
_TEXT_MOST = 16 << 20


class Reader:
    """Reads values one after the other.

    Args:
        content: All of it.
        examination: Its limits hold: time, and what may be unpacked into memory.
    """

    def __init__(self, content: Content, examination: Examination) -> None:
        self._content = content
        self._examination = examination
        self._window = b""
        self._start = 0
        self.at = 0
        self._values = 0

    def value(self, depth: int = 0) -> Any:
        """The next value.

        Raises:
            ValueError: It is none.
            CutError: The content ends before it does.
        """
        return self._of(self._byte(), depth)

    def _of(self, kind: int, depth: int) -> Any:
        self._values += 1
        if self._values % 4096 == 0:
            self._examination.check_time()
        if kind in _TYPES:
            code, size = _TYPES[kind]
            return np.frombuffer(self._take(size), code)[0].item()
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind == ord("S"):
            return self._text()
        if kind == ord("C"):
            return self._take(1).decode("latin-1")
        if depth >= _DEPTH:
            raise ValueError(f"values nested more than {_DEPTH} deep")
        if kind == ord("["):
            return self._array(depth)
        if kind == ord("{"):
            return self._object(depth)
        raise ValueError(f"no value of type {kind:#04x} at byte {self.at - 1}")

    def _array(self, depth: int) -> Any:
        kind = self._byte()
        if kind == ord("$"):
            code = self._byte()
            if self._byte() != ord("#"):
                raise ValueError(f"an array of one type without a count at byte {self.at - 1}")
            count = self._length()
            if code not in _TYPES:
                raise ValueError(f"an array of type {code:#04x} at byte {self.at}")
            name, size = _TYPES[code]
            if count * size > self._content.size - self.at:
                raise CutError(f"an array of {count} numbers at byte {self.at}, beyond the end")
            self._examination.unpack(count * size)
            data = self._content.read(self.at, count * size)
            self.at += count * size
            return np.frombuffer(data, name)
        if kind == ord("#"):
            count = self._length()
            self._fits(count)
            return [self.value(depth + 1) for _ in range(count)]
        values = []
        while kind != ord("]"):
            values.append(self._of(kind, depth + 1))
            kind = self._byte()
        return values

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        kind = self._byte()
        if kind in {ord("$"), ord("#")}:
            raise ValueError(f"an object with a count at byte {self.at - 1}, which XGBoost does not write")
        while kind != ord("}"):
            key = self._text(kind)
            if key in found:
                raise ValueError(f"the key {key!r} stands twice in one object")
            found[key] = self.value(depth + 1)
            kind = self._byte()
        return found

    def _fits(self, count: int) -> None:
        if count > self._content.size - self.at:
            raise CutError(f"{count} values at byte {self.at}, beyond the end")

    def _length(self, kind: int | None = None) -> int:
        kind = self._byte() if kind is None else kind
        code, size = _TYPES.get(kind, ("", 0))
        if not code or "f" in code:
            raise ValueError(f"no length at byte {self.at - 1}")
        length = int(np.frombuffer(self._take(size), code)[0])
        if length < 0:
            raise ValueError(f"a length of {length} at byte {self.at - size}")
        return length

    def _text(self, kind: int | None = None) -> str:
        length = self._length(kind)
        if length > _TEXT_MOST:
            raise ValueError(f"a text of {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, length: int) -> bytes:
        start = self.at - self._start
        if start < 0 or start + length > len(self._window):
            available = self._content.size - self.at
            if length > available:
                raise CutError(f"it ends at byte {self._content.size}, before byte {self.at + length}")
            self._window = self._content.read(self.at, min(available, max(length, 1 << 16)))
            self._start, start = self.at, 0
        self.at += length
        return self._window[start : start + length]
