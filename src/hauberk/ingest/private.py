"""A private copy of a model file, which nobody can change.

What is scanned must be what is loaded. A file that others can write may change between the two, and through a mapping
of the file even afterwards. So its bytes are copied once into anonymous memory (Linux `memfd_create`), the copy is
sealed against every change, its own process's included, and all that follows reads the copy.

A file that would take more than half of the memory that is free (`room`) is copied to the disk instead, into a file
without a name (`O_TMPFILE`) in the folder for temporary files, which is then open for reading only. Nobody can reach
that one but through the descriptors of this process: its own user's debugger could, root could.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest.room import free_disk, free_memory

MAX_MODEL_BYTES = 8 << 30
"""The largest model file that is read whole, where something needs that."""
MAX_COPIED_BYTES = 256 << 30
"""The largest model file that is copied."""

_BLOCK = 1 << 22
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class PrivateCopy:
    """Sealed bytes in memory, readable by offset or, for readers that want a path, through `path`.

    Use it as a context manager; tensors that map it stay valid afterwards.

    Args:
        source: The file to copy.
        limit: The most bytes to read.
        in_memory: Bytes up to which the copy lies in memory; by default half of what is free.

    Raises:
        InputError: The file is missing, unreadable, empty, not a regular file, larger than `limit` or than the disk has
            room for, or it changes its size meanwhile.
    """

    def __init__(self, source: Path, limit: int = MAX_COPIED_BYTES, *, in_memory: int | None = None) -> None:
        self.source = source
        with _opened(source) as original:
            self.size = os.fstat(original).st_size
            if not self.size:
                raise InputError(f"{source}: the model file is empty (0 bytes)")
            if self.size > limit:
                raise InputError(f"{source}: larger than {limit} bytes, the most that is read of such a model")
            most = free_memory() // 2 if in_memory is None else in_memory
            self.sealed = self.size <= most
            if not self.sealed and self.size > (room := free_disk()):
                raise InputError(
                    f"{source}: its copy takes {self.size} bytes, and the folder for temporary files has room for"
                    f" {room}; name another one with TMPDIR"
                )
            with _unfinished(sealed=self.sealed) as descriptor:
                self.sha256 = _copy(original, descriptor, source, self.size)
                self.descriptor = closed_to_writing(descriptor, sealed=self.sealed)

    @classmethod
    def of(cls, content: bytes, source: Path) -> Self:
        """A copy of what is in memory already.

        Args:
            content: Bytes, at least one.
            source: What to call it.
        """
        made = cls.__new__(cls)
        made.source, made.sealed = source, True
        made.size, made.sha256 = len(content), hashlib.sha256(content).hexdigest()
        with _unfinished(sealed=True) as descriptor:
            _write_all(descriptor, content)
            made.descriptor = closed_to_writing(descriptor, sealed=True)
        return made

    @property
    def path(self) -> str:
        """A path to the copy, valid in this process while the copy is open."""
        return f"/proc/self/fd/{self.descriptor}"

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`.

        Raises:
            RefusedModelError: The file ends before.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise RefusedModelError(f"{self.source}: damaged: it ends before byte {offset + length}")
        pieces = []
        while length:
            piece = os.pread(self.descriptor, min(length, _BLOCK), offset)
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def head(self, length: int) -> bytes:
        """The first bytes, at most `length`."""
        return self.read(0, min(length, self.size))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[int]:
    """A regular file, open for reading."""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{source}: cannot read the model: {(error.strerror or str(error)).lower()}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{source}: not a regular file; name a model file, or a folder that `train` wrote")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _unfinished(*, sealed: bool) -> Iterator[int]:
    """A file without a name, closed again where filling it fails."""
    descriptor = anonymous(in_memory=sealed)
    try:
        yield descriptor
    except BaseException:
        with contextlib.suppress(OSError):  # closed already, where it was opened anew for reading
            os.close(descriptor)
        raise


def anonymous(*, in_memory: bool) -> int:
    """A file without a name."""
    if in_memory:
        return os.memfd_create("hauberk-model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def closed_to_writing(descriptor: int, *, sealed: bool) -> int:
    """The same file, and no way to change it any more.

    Raises:
        OSError: It cannot be closed off: whoever had it before did something to it.
    """
    if sealed:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return descriptor
    reading = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(descriptor)
    return reading


def _copy(original: int, target: int, source: Path, size: int) -> str:
    """Copy and hash; returns the SHA-256 (hex).

    No more is read than the file said that it has: there are files without an end that say it has none (`/proc`).
    """
    digest, left = hashlib.sha256(), size
    try:
        while left and (block := os.read(original, min(left, _BLOCK))):
            left -= len(block)
            digest.update(block)
            _write_all(target, block)
        if left or os.fstat(original).st_size != size:
            raise InputError(f"{source}: it changed its size while it was read")
    except OSError as error:
        raise InputError(f"{source}: cannot copy the model: {(error.strerror or str(error)).lower()}") from error
    return digest.hexdigest()


def _write_all(target: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(target, view) :]
