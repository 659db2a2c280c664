"""How the two ends of a worker's connection talk: frames of five bytes and a payload.

A frame is the payload's length (uint32, little endian), its kind (uint8) and the payload. One question is answered by
one frame before the next is asked.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from enum import IntEnum

import msgspec

from hauberk.sandbox.limits import Limits

HEADER = struct.Struct("<IB")
LONGEST = 0xFFFFFFFF
"""Bytes of the longest payload that a frame can carry."""

_PIECE = 1 << 16
_STANDARD = 2
"""The highest number of a standard stream."""


class Kind(IntEnum):
    """What a frame means."""

    DATA = 0
    """A question, or its answer."""
    REFUSED = 1
    """A `HauberkError`; the payload is its message. The worker lives on."""
    LIMIT = 2
    """A limit was reached; the payload says which. The worker ends."""
    FAULT = 3
    """Anything else went wrong; the payload names the exception's type. The worker ends."""
    BEGUN = 4
    """From a child that answers several times: it is under its limits and begins; nothing is in the payload."""


class Launch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first frame that a worker receives; the second one is what its target is set up with.

    Attributes:
        target: `module:function`, see `hauberk.sandbox.child`.
        limits: What the worker puts itself under before it imports the target.
        parent: Process number of who starts it.
    """

    target: str
    limits: Limits
    parent: int


def connection(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection, neither of them where a process that is started has its standard streams.

    Where somebody closed his own, these numbers are the next that are given away.

    Raises:
        OSError: This process may open no more.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    try:
        ours = _above_standard(ours)
        theirs = _above_standard(theirs)
    except OSError:
        ours.close()
        theirs.close()
        raise
    return ours, theirs


def _above_standard(end: socket.socket) -> socket.socket:
    if end.fileno() > _STANDARD:
        return end
    with end:
        return socket.socket(fileno=fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _STANDARD + 1))


def occupy_standard() -> None:
    """Open nothing (`/dev/null`) where this process has no standard streams, so that no file gets their numbers."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STANDARD:
        pass
    os.close(opened)


class Channel:
    """The worker's end: blocking, on a bare file descriptor.

    Args:
        descriptor: A connected stream socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._received = bytearray()

    def receive(self) -> bytes | None:
        """The payload of the next frame; `None` when the other end is gone."""
        if not self._fill(HEADER.size):
            return None
        length, _ = HEADER.unpack_from(self._received)
        if not self._fill(HEADER.size + length):
            return None
        payload = bytes(memoryview(self._received)[HEADER.size : HEADER.size + length])
        del self._received[: HEADER.size + length]
        return payload

    def send(self, kind: Kind, payload: bytes) -> None:
        """Send one frame.

        Raises:
            OSError: The other end is gone.
        """
        left = [memoryview(HEADER.pack(len(payload), kind)), memoryview(payload)]
        while left:
            written = os.writev(self._descriptor, left)
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if left:
                left[0] = left[0][written:]

    def _fill(self, count: int) -> bool:
        """Receive until `count` bytes are there; small frames take one system call."""
        while len(self._received) < count:
            piece = os.read(self._descriptor, max(_PIECE, min(count - len(self._received), 16 * _PIECE)))
            if not piece:
                return False
            self._received += piece
        return True
