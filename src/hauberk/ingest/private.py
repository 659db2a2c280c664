"""A private, sealed copy of a model file.

What is scanned must be what is loaded. A file that others can write may change between the two, and through a mapping
of the file even afterwards. So its bytes are copied once into anonymous memory (Linux `memfd_create`), the copy is
sealed against every change, its own process's included, and all that follows reads the copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from hauberk.errors import InputError, RefusedModelError

MAX_MODEL_BYTES = 8 << 30
"""The largest model file that is read; the copy lies in memory."""

_BLOCK = 1 << 22
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class PrivateCopy:
    """Sealed bytes in memory, readable by offset or, for readers that want a path, through `path`.

    Use it as a context manager; tensors that map it stay valid afterwards.

    Args:
        source: The file to copy.
        limit: The most bytes to read.

    Raises:
        InputError: The file is missing, unreadable, empty, not a regular file or larger than `limit`.
    """

    def __init__(self, source: Path, limit: int = MAX_MODEL_BYTES) -> None:
        self.source = source
        self.descriptor = os.memfd_create("hauberk-model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            self.size, self.sha256 = _copy(source, self.descriptor, limit)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(self.descriptor)
            raise

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


def _copy(source: Path, target: int, limit: int) -> tuple[int, str]:
    """Copy and hash; returns size and SHA-256 (hex)."""
    digest, size = hashlib.sha256(), 0
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{source}: not a regular file; name a model file, or a folder that `train` wrote")
            while block := os.read(descriptor, _BLOCK):
                size += len(block)
                if size > limit:
                    raise InputError(f"{source}: larger than {limit} bytes, the most that is read of such a model")
                digest.update(block)
                _write_all(target, block)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{source}: cannot read the model: {(error.strerror or str(error)).lower()}") from error
    if not size:
        raise InputError(f"{source}: the model file is empty (0 bytes)")
    return size, digest.hexdigest()


def _write_all(target: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(target, view) :]
