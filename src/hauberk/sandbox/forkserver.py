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
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import msgspec

from hauberk.sandbox.child import report
from hauberk.sandbox.frames import Channel, Kind, occupy_standard
from hauberk.sandbox.limits import Check, Limits, apply, end_with_parent
from hauberk.sandbox.probes import check_all

LONGEST_ORDER = 1 << 16
MOST_DESCRIPTORS = 250
"""The kernel hands over 253 at once."""
STOP = b"stop"
"""Said to a server: kill the child that is at work. A message like an order, and never one."""

_ROOM = 256 << 20
"""Bytes of address space for what allocators reserve without using it."""

Target = Callable[[bytes, Sequence[int]], bytes | Iterator[bytes]]
"""What a child runs: the question and its descriptors, to an answer, or to one after the other. Raises as
`child.Handler.answer`."""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first thing that a server is told; it answers with the checks.

    Attributes:
        limits: Another process tries them, by their effect.
        imports: As in an order; imported meanwhile.
    """

    limits: Limits
    imports: tuple[str, ...]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a child is to do. Its first descriptor is where it answers, the others are the target's.

    Attributes:
        target: `module:function`, a `Target`.
        question: Handed to it.
        limits: What the child puts itself under before it calls the target. `mapped` counts beyond what the server
            itself has mapped.
        time_limit: Seconds until it is killed, importing not counted; `None` where the asker keeps the time.
        imports: Modules to import before forking, or functions without arguments to call (`module:function`), each
            once in the life of the server.
        by_path: Whether it may also open by their paths what it is handed, as libraries want it.
    """

    target: str
    question: bytes
    limits: Limits
    time_limit: float | None
    imports: tuple[str, ...]
    by_path: bool


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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who was started by one that ignores it could wait for no child
    occupy_standard()
    with socket.socket(fileno=descriptor) as control:
        start = msgspec.msgpack.decode(control.recv(LONGEST_ORDER), type=Start)
        gc.disable()  # a collection in a child would copy every page that it looks at
        prober = _forked_prober(start.limits, control)
        done: set[str] = set()
        with contextlib.suppress(Exception):  # an order asks again, and whoever gave it hears why it fails
            _import(start.imports, done)
        if os.waitpid(prober, 0)[1] != 0:
            sys.exit(1)  # nobody knows what holds
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, LONGEST_ORDER, MOST_DESCRIPTORS)
            if not message:
                return
            if message == STOP:  # its child has ended meanwhile
                continue
            order = msgspec.msgpack.decode(message, type=Order)
            ended = _serve(control, order, descriptors, done)
            control.send(msgspec.msgpack.encode(ended))


def _forked_prober(limits: Limits, control: socket.socket) -> int:
    """A process that tries the limits, says what came of it and ends; where it fails it says nothing."""
    server = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        end_with_parent()
        if os.getppid() != server:
            os._exit(code)
        checks: tuple[Check, ...] = check_all(limits)
        control.send(msgspec.msgpack.encode(checks))
        code = 0
    except (BrokenPipeError, ConnectionResetError):  # the starter is gone, nobody is left to tell
        pass
    except BaseException:  # noqa: BLE001 - it never returns into the server's loop
        traceback.print_exc()
    finally:
        os._exit(code)


def _import(names: Sequence[str], done: set[str]) -> None:
    """Import modules, or call functions (`module:function`), that are not `done`."""
    for name in names:
        if name not in done:
            module, _, function = name.partition(":")
            imported = import_module(module)
            if function:
                getattr(imported, function)()
            done.add(name)


def _serve(control: socket.socket, order: Order, descriptors: Sequence[int], done: set[str]) -> Ended:
    """Fork a child for an order, and wait for its end; what was imported for former orders is in `done`."""
    try:
        _import(order.imports, done)
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


def _wait(pid: int, control: socket.socket, time_limit: float | None) -> Ended:
    """Wait for the child; kill it when its time is up, it is to stop, or nobody waits for it any more."""
    process = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(control, select.POLLIN)  # who speaks before the answer wants it stopped, or is gone
        ready = poll.poll(None if time_limit is None else 1000 * time_limit)
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
            apply(_own_limits(order, descriptors[1:]))
            if os.getppid() == parent:  # it had not died before the kernel was asked to tell
                _answer(channel, target(order.question, descriptors[1:]))
                code = 0
        except Exception as error:  # noqa: BLE001 - the asker must hear of it
            code = 0 if report(channel, error) else 1
    except BaseException:  # noqa: BLE001 - no child ever returns into the server's loop
        traceback.print_exc()
    finally:
        os._exit(code)


def _answer(channel: Channel, answer: bytes | Iterator[bytes]) -> None:
    if isinstance(answer, bytes):
        channel.send(Kind.DATA, answer)
        return
    channel.send(Kind.BEGUN, b"")
    for each in answer:
        channel.send(Kind.DATA, each)


def _own_limits(order: Order, descriptors: Sequence[int]) -> Limits:
    """The limits of an order, with what only its child knows: what it has mapped, and where its files are."""
    limits = order.limits
    if limits.mapped is not None:
        limits = msgspec.structs.replace(limits, mapped=limits.mapped + _mapped() + _ROOM)
    if limits.read_only is None or not order.by_path:
        return limits
    handed = (f"/proc/self/fd/{descriptor}" for descriptor in descriptors)
    return msgspec.structs.replace(limits, read_only=(*limits.read_only, *handed))


def _mapped() -> int:
    """Bytes of address space that this process has; 4 GiB where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except (OSError, ValueError, IndexError):
        return 4 << 30
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the starter is gone, nobody is left to tell
        main(int(sys.argv[1]))
