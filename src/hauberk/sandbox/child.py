"""The inside of a worker process: take limits, set up, then answer one question after the other.

Run as `python -m hauberk.sandbox.child DESCRIPTOR`; whatever else it must know, keys among it, comes over that
connection, where neither the process list nor the environment shows it. The target is a function that takes the set-up
bytes and returns a `Handler`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from importlib import import_module
from typing import Protocol

import msgspec

from hauberk.errors import HauberkError, LimitError
from hauberk.sandbox.frames import Channel, Kind, Launch, occupy_standard
from hauberk.sandbox.limits import apply


class Handler(Protocol):
    """What a target returns."""

    greeting: bytes
    """Sent to the starter: the worker is ready, and this is what it says about itself."""

    def answer(self, question: bytes) -> bytes:
        """Answer one question.

        Raises:
            LimitError: A limit was reached; the starter hears so, and the worker ends.
            HauberkError: The question is not acceptable; the starter hears the message, and the worker lives on.
        """


def main(descriptor: int) -> None:
    """Live as a worker until the other end closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    occupy_standard()
    channel = Channel(descriptor)
    first, setup = channel.receive(), channel.receive()
    if first is None or setup is None:
        return
    launch = msgspec.msgpack.decode(first, type=Launch)
    apply(launch.limits)
    if os.getppid() != launch.parent:
        return  # the parent died before we asked the kernel to tell us
    try:
        handler = _set_up(launch.target, setup)
    except Exception as error:  # noqa: BLE001 - whatever it is, the starter must hear of it
        report(channel, error)
        return
    del setup
    channel.send(Kind.DATA, handler.greeting)
    _serve(channel, handler)


def _set_up(target: str, setup: bytes) -> Handler:
    module, _, function = target.partition(":")
    handler: Handler = getattr(import_module(module), function)(setup)
    return handler


def _serve(channel: Channel, handler: Handler) -> None:
    while (question := channel.receive()) is not None:
        try:
            answer = handler.answer(question)
        except Exception as error:  # noqa: BLE001 - the starter must hear of it
            if not report(channel, error):
                return
        else:
            channel.send(Kind.DATA, answer)


def report(channel: Channel, error: Exception) -> bool:
    """Tell the starter what went wrong; returns whether this process is still sound."""
    if isinstance(error, MemoryError):
        channel.send(Kind.LIMIT, b"out of memory")
        return False
    if isinstance(error, LimitError):
        channel.send(Kind.LIMIT, str(error).encode())
        return False
    if isinstance(error, HauberkError):
        channel.send(Kind.REFUSED, str(error).encode())
        return True
    traceback.print_exception(error)  # for the operator; the starter, and so a client, hears only the type
    channel.send(Kind.FAULT, type(error).__name__.encode())
    return False


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the starter is gone, nobody is left to tell
        main(int(sys.argv[1]))
