"""The inside of a fork server: import once what its children need, then fork one limited child for every question.

Run as `python -m hauberk.sandbox.forkserver DESCRIPTOR`. It never looks at what its children are given, so it stays
what it was started as; a child that is taken over has nothing but what it was given, and the next one knows nothing of
it. It has one thread, which is what makes a fork safe. It ends when the other end closes the connection.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

import msgspec

from hauberk.sandbox.child import report
from hauberk.sandbox.frames import Channel, Kind
from hauberk.sandbox.limits import Check, Limits, apply
from hauberk.sandbox.probes import check_all

LONGEST_ORDER = 1 << 16
MOST_DESCRIPTORS = 16

Target = Callable[[bytes, Sequence[int]], bytes]
"""What a child runs: the question and its descriptors, to an answer. Raises as `child.Handler.answer`."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a child is to do. Its first descriptor is where it answers, the others are the target's.

    Attributes:
        target: `module:function`, a `Target`.
        question: Handed to it.
        limits: What the child puts itself under before it calls the target.
        time_limit: Seconds until it is killed, importing not counted.
        imports: Modules to import before forking, or functions without arguments to call (`module:function`); what is
            in memory from former orders stays.
    """

    target: str
    question: bytes
    limits: Limits
    time_limit: float
    imports: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a child ended.

    Attributes:
        code: Its exit code, or a signal's number, negative; `None` where it was not started.
        late: Whether it was killed because its time was up.
        fault: Why it was not started.
    """

    code: int | None
    late: bool = False
    fault: str = ""


def main(descriptor: int) -> None:
    """Serve orders until nobody is left to give them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    with socket.socket(fileno=descriptor) as control:
        tested = msgspec.msgpack.decode(control.recv(LONGEST_ORDER), type=Limits)
        checks: tuple[Check, ...] = check_all(tested)
        control.send(msgspec.msgpack.encode(checks))
        gc.disable()  # a collection in a child would copy every page that it looks at
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, LONGEST_ORDER, MOST_DESCRIPTORS)
            if not message:
                return
            order = msgspec.msgpack.decode(message, type=Order)
            ended = _serve(control, order, descriptors)
            control.send(msgspec.msgpack.encode(ended))


def _serve(control: socket.socket, order: Order, descriptors: Sequence[int]) -> Ended:
    try:
        for name in order.imports:
            module, _, function = name.partition(":")
            imported = import_module(module)
            if function:
                getattr(imported, function)()
        target = _target(order.target)
    except Exception as error:  # noqa: BLE001 - whoever asked must hear of it
        for descriptor in descriptors:
            os.close(descriptor)
        return Ended(None, fault=f"{type(error).__name__}: {error}")
    gc.freeze()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(control.detach())  # a child that is taken over must not speak for its server
        _live(order, target, descriptors, parent)
    for descriptor in descriptors:
        os.close(descriptor)
    return _wait(pid, control, order.time_limit)


def _target(name: str) -> Target:
    module, _, function = name.partition(":")
    target: Target = getattr(import_module(module), function)
    return target


def _wait(pid: int, control: socket.socket, time_limit: float) -> Ended:
    """Wait for the child; kill it when its time is up or nobody waits for it any more."""
    deadline = time.monotonic() + time_limit
    process = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(control, select.POLLIN)  # nobody speaks before the answer: the other end is gone
        ready = poll.poll(max(0.0, 1000 * (deadline - time.monotonic())))
        late = not any(found == process for found, _ in ready)
        if late:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(process)
    status = os.waitpid(pid, 0)[1]
    return Ended(os.waitstatus_to_exitcode(status), late=late)


def _live(order: Order, target: Target, descriptors: Sequence[int], parent: int) -> NoReturn:
    """Be the child."""
    code = 1
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 1)
        os.dup2(silence, 2)  # what a parser says of a hostile file is no message of ours
        os.close(silence)
        channel = Channel(descriptors[0])
        try:
            apply(_with_own_files(order.limits, descriptors[1:]))
            if os.getppid() == parent:  # it had not died before the kernel was asked to tell
                channel.send(Kind.DATA, target(order.question, descriptors[1:]))
                code = 0
        except Exception as error:  # noqa: BLE001 - the asker must hear of it
            code = 0 if report(channel, error) else 1
    except BaseException:  # noqa: BLE001 - no child ever returns into the server's loop
        traceback.print_exc()
    finally:
        os._exit(code)


def _with_own_files(limits: Limits, descriptors: Sequence[int]) -> Limits:
    """What a child was handed it may also open by path, as libraries want it."""
    if limits.read_only is None:
        return limits
    handed = (f"/proc/self/fd/{descriptor}" for descriptor in descriptors)
    return msgspec.structs.replace(limits, read_only=(*limits.read_only, *handed))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the starter is gone, nobody is left to tell
        main(int(sys.argv[1]))
