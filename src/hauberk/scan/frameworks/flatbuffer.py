"""FlatBuffers: tables found by offsets, each of them checked before it is followed.

Format: https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination

_PAGE = 1 << 16
_PAGES = 64
_TABLES_MOST, _FIELDS_MOST = 1 << 18, 256
_STEP, _BETWEEN_LOOKS = 64, 1 << 17
"""Bytes that one look at the buffer is reckoned as, and bytes between two looks at the clock."""


class Buffer:
    """The bytes of a buffer, read by pages.

    Args:
        content: All of it.
        examination: Its time limit holds.
    """

    def __init__(self, content: Content, examination: Examination) -> None:
        self._content = content
        self._examination = examination
        self._pages: dict[int, bytes] = {}
        self._read = 0
        self.size = content.size

    def number(self, at: int, width: int, *, signed: bool = False) -> int:
        """A whole number, least significant byte first."""
        return int.from_bytes(self.bytes(at, width), "little", signed=signed)

    def bytes(self, at: int, length: int) -> bytes:
        """Bytes from a place.

        Raises:
            CutError: There are none.
        """
        self._read += length + _STEP
        if self._read > _BETWEEN_LOOKS:
            self._read = 0
            self._examination.check_time()
        if at < 0 or at + length > self.size:
            raise CutError(f"byte {at + length} of {self.size}")
        page, start = divmod(at, _PAGE)
        if start + length > _PAGE:
            return self._content.read(at, length)
        if page not in self._pages:
            if len(self._pages) >= _PAGES:
                self._pages.clear()
            self._pages[page] = self._content.read(page * _PAGE, min(_PAGE, self.size - page * _PAGE))
        return self._pages[page][start : start + length]

    def root(self) -> Table:
        """The outermost table."""
        return Table(self, self.number(0, 4))


class Table:
    """A table: fields by number, each absent or at an offset.

    Args:
        buffer: Where it lies.
        at: Its place.

    Raises:
        CutError: It does not lie inside.
        ValueError: Its list of fields is damaged.
    """

    def __init__(self, buffer: Buffer, at: int) -> None:
        self._buffer = buffer
        self.at = at
        listed = at - buffer.number(at, 4, signed=True)
        size = buffer.number(listed, 2)
        self._length = buffer.number(listed + 2, 2)
        if size < 4 or size % 2 or self._length < 4 or at + self._length > buffer.size:
            raise ValueError(f"a damaged table at byte {at}")
        if size > 4 + 2 * _FIELDS_MOST:  # one list of fields may serve any number of tables
            raise ValueError(f"a table of {size // 2 - 2} fields at byte {at}")
        fields = buffer.bytes(listed + 4, size - 4)
        self._fields = [int.from_bytes(fields[place : place + 2], "little") for place in range(0, len(fields), 2)]

    @property
    def last_field(self) -> int:
        """The highest number of a field that is there; -1 where none is."""
        return max((number for number, offset in enumerate(self._fields) if offset), default=-1)

    def _place(self, field: int, width: int) -> int:
        """Where a field lies; 0 where it is absent.

        Raises:
            ValueError: It lies outside its table.
        """
        offset = self._fields[field] if field < len(self._fields) else 0
        if offset and (offset < 4 or offset + width > self._length):
            raise ValueError(f"field {field} lies outside its table at byte {self.at}")
        return self.at + offset if offset else 0

    def scalar(self, field: int, width: int, default: int = 0, *, signed: bool = False) -> int:
        """A whole number of a field."""
        place = self._place(field, width)
        return self._buffer.number(place, width, signed=signed) if place else default

    def _target(self, field: int) -> int:
        place = self._place(field, 4)
        return place + self._buffer.number(place, 4) if place else 0

    def table(self, field: int) -> Self | None:
        """Another table; `None` where it is absent."""
        target = self._target(field)
        return type(self)(self._buffer, target) if target else None

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Place and count of a vector's elements, each of `width` bytes; (0, 0) where it is absent.

        Raises:
            CutError: It does not lie inside.
        """
        target = self._target(field)
        if not target:
            return 0, 0
        count = self._buffer.number(target, 4)
        if target + 4 + count * width > self._buffer.size:
            raise CutError(f"{count} elements at byte {target}, beyond the end")
        return target + 4, count

    def text(self, field: int) -> str:
        """A text; empty where it is absent."""
        place, count = self.vector(field, 1)
        return self._buffer.bytes(place, min(count, 1 << 16)).decode("utf-8", "backslashreplace") if count else ""

    def numbers(self, field: int, dtype: str) -> npt.NDArray[np.generic]:
        """A vector of numbers of one type."""
        kind = np.dtype(dtype)
        place, count = self.vector(field, kind.itemsize)
        return np.frombuffer(self._buffer.bytes(place, count * kind.itemsize) if count else b"", kind)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables.

        Raises:
            CutError: One does not lie inside.
            ValueError: One is damaged, or there are more than any model has.
        """
        place, count = self.vector(field, 4)
        if count > _TABLES_MOST:
            raise ValueError(f"{count} tables in a list")
        offsets = [place + 4 * index for index in range(count)]
        return [Table(self._buffer, at + self._buffer.number(at, 4)) for at in offsets]
