"""Compressed bytes as a content: unpacked forward as far as somebody reads, in constant memory.

Whoever reads backward makes it start again, so the first mebibyte is kept, and small contents are kept whole. Every
byte counts towards what one file may unpack to, also when it is unpacked a second time: it takes the time again.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import Rule

_KEPT = 1 << 20
_BLOCK = 1 << 18


class Decompressor(Protocol):
    """One stream, fed piece by piece."""

    @property
    def eof(self) -> bool:
        """The stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """What was fed and lies behind its end."""

    @property
    def needs_input(self) -> bool:
        """Nothing that was fed is left."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most so many bytes."""


class Deflate:
    """`zlib`'s decompressor under the interface of the other two.

    Args:
        bits: Of the window; negative for streams without a header, 31 for gzip.
    """

    def __init__(self, bits: int = -zlib.MAX_WBITS) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        """The stream has ended."""
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        """What was fed and lies behind its end."""
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most so many bytes; what was not taken yet goes before `data`."""
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        """Nothing that was fed is left."""
        return not self._inner.unconsumed_tail


ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError)
"""What decompressors raise for damaged data (`bz2` raises OSError)."""


def bzip2() -> Decompressor:
    """One bzip2 stream."""
    return bz2.BZ2Decompressor()


class Unpacked(Content):
    """What a compressed content unpacks to; its size is known.

    Args:
        packed: The compressed bytes, all of them.
        size: Bytes that it must unpack to.
        start: Makes a decompressor.
        examination: Counts what is unpacked.
        damaged: Found where the stream is damaged, longer or shorter than it says, or followed by something.
        what: How findings call it.
        checksum: CRC-32 of what it unpacks to; `None` where there is none.
        wrong: Found where the checksum is wrong.
    """

    def __init__(
        self,
        packed: Content,
        size: int,
        start: Callable[[], Decompressor],
        examination: Examination,
        *,
        damaged: Rule,
        what: str,
        checksum: int | None = None,
        wrong: Rule | None = None,
    ) -> None:
        self.size = size
        self._packed = packed
        self._start = start
        self._examination = examination
        self._damaged = damaged
        self._what = what
        self._checksum = checksum
        self._wrong = wrong
        self._head = bytearray()
        self._checked = False
        self._restart()

    def _restart(self) -> None:
        self._decompressor = self._start()
        self._fed = 0
        self._at = 0  # of what has been unpacked, where `_window` ends
        self._window = b""
        self._sum = 0

    def check(self) -> None:
        """Unpack it to its end once, and compare its size and checksum."""
        while not self._checked and self._at < self.size:
            self._step()
        self._finish()

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length <= len(self._head):
            return bytes(self._head[offset : offset + length])
        if offset < self._at - len(self._window):
            self._restart()
        pieces: list[bytes] = []
        end = offset + length
        while True:
            start = self._at - len(self._window)
            if offset < self._at:
                piece = self._window[offset - start : end - start]
                pieces.append(piece)
                offset += len(piece)
            if offset >= end:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._step()

    def _step(self) -> None:
        """Unpack one more block."""
        block = self._more(min(_BLOCK, self.size - self._at))
        if not block:
            self._examination.find(self._damaged, f"{self._what}: unpacks to {self._at} bytes instead of {self.size}")
            raise StopScan
        if not self._checked:
            self._sum = zlib.crc32(block, self._sum)
        self._at += len(block)
        self._window = block
        if len(self._head) < _KEPT and self._at - len(block) == len(self._head):
            self._head += block
        if self._at == self.size:
            self._finish()

    def _more(self, most: int) -> bytes:
        """At most so many bytes; nothing where the stream has ended."""
        decompressor = self._decompressor
        try:
            while not decompressor.eof:
                data = b""
                if decompressor.needs_input:
                    data = self._packed.read(self._fed, min(_BLOCK, self._packed.size - self._fed))
                    self._fed += len(data)
                block = decompressor.decompress(data, most)
                if block:
                    self._examination.unpack(len(block))
                    self._examination.check_time()
                    return block
                if not data and not decompressor.eof:
                    break
        except ERRORS as error:
            self._examination.find(self._damaged, f"{self._what}: {str(error)[:80]}")
            raise StopScan from error
        if not decompressor.eof:
            self._examination.find(self._damaged, f"{self._what}: the compressed data ends early")
            raise StopScan
        return b""

    def _finish(self) -> None:
        """All of it has been unpacked once: does it end where it should, and is it what it should be?"""
        if self._checked:
            return
        self._checked = True
        if self._more(1):
            self._examination.find(self._damaged, f"{self._what}: unpacks to more than {self.size} bytes")
        elif left := self._packed.size - self._fed + len(self._decompressor.unused_data):
            self._examination.find(self._damaged, f"{self._what}: {left} bytes behind the compressed data")
        elif self._checksum is not None and self._wrong is not None and self._sum != self._checksum:
            self._examination.find(self._wrong, f"{self._what}: CRC-32 {self._sum:08x}, stated is {self._checksum:08x}")
