"""Bytes that can be read by offset: a file, a part of one, or something that was unpacked from it.

Scanners read what matters and no more, so a checkpoint of 20 GB costs as much as its headers. Nothing here maps a file:
one that is cut while it is mapped kills its reader.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from hauberk.errors import InputError

_KEPT = 1 << 18
"""Bytes of files that are read once and kept."""


class CutError(ValueError):
    """Something ends before it should."""


class Content(ABC):
    """Bytes with a known size.

    Attributes:
        size: Bytes.
    """

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`.

        Raises:
            CutError: It ends before, or the place is no place.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CutError(f"it ends at byte {self.size}, before byte {offset + length}")
        data = self._read(offset, length)
        if len(data) != length:
            raise CutError(f"it ends at byte {offset + len(data)}: it changed while it was read")
        return data

    def head(self, length: int) -> bytes:
        """The first bytes, at most `length`."""
        return self.read(0, min(length, self.size))

    def tail(self, length: int) -> bytes:
        """The last bytes, at most `length`."""
        length = min(length, self.size)
        return self.read(self.size - length, length)

    def part(self, offset: int, length: int) -> Content:
        """A part as contents of its own; nothing is read.

        Raises:
            CutError: It lies outside.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CutError(f"it ends at byte {self.size}, before byte {offset + length}")
        return _Part(self, offset, length)

    @abstractmethod
    def _read(self, offset: int, length: int) -> bytes:
        """The bytes; the place lies inside."""


class BytesContent(Content):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def _read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class FileContent(Content):
    """An open file, read by offset; whoever opened the descriptor closes it.

    Args:
        descriptor: Of a regular file, a sealed copy for one.
        size: Bytes, where it is known already.
    """

    def __init__(self, descriptor: int, size: int | None = None) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size if size is None else size
        self._whole: bytes | None = None

    def _read(self, offset: int, length: int) -> bytes:
        if self.size <= _KEPT:  # every format that looks at a small file would ask the kernel for the same bytes
            if self._whole is None:
                self._whole = os.pread(self._descriptor, self.size, 0)
            return self._whole[offset : offset + length]
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length:
            return data
        pieces = [data]  # the kernel reads at most 2 GiB at once
        length, offset = length - len(data), offset + len(data)
        while length and pieces[-1]:
            pieces.append(os.pread(self._descriptor, length, offset))
            length, offset = length - len(pieces[-1]), offset + len(pieces[-1])
        return b"".join(pieces)


def open_regular(path: Path) -> tuple[int, int]:
    """Open a regular file for reading; the caller closes it.

    What is no regular file is not even opened: there are devices to which that does something.

    Returns:
        The descriptor, and the file's size in bytes.

    Raises:
        InputError: It is missing, cannot be read or is not a regular file.
    """
    try:
        if stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - half the time of Path's, for each small file
            # Without O_NONBLOCK, opening a pipe that was put there meanwhile would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                return descriptor, status.st_size
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a path: {error}") from error
    raise InputError(f"{path}: not a regular file; name a file or a folder")


class OpenFile:
    """A file opened for a scan. Use it as a context manager.

    Args:
        path: Links are followed: what they name is what a loader would read.

    Raises:
        InputError: It is missing, cannot be read or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor, size = open_regular(path)
        self.content = FileContent(self._descriptor, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class _Part(Content):
    def __init__(self, whole: Content, start: int, size: int) -> None:
        self._whole = whole
        self._start = start
        self.size = size

    def _read(self, offset: int, length: int) -> bytes:
        return self._whole.read(self._start + offset, length)

    def part(self, offset: int, length: int) -> Content:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CutError(f"it ends at byte {self.size}, before byte {offset + length}")
        return _Part(self._whole, self._start + offset, length)
