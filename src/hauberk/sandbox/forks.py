"""The starter's handle on a fork server: ask something that is answered in a process of its own, made in milliseconds.

For work that needs large libraries and little time, and of which every piece must be alone: parsing files that nobody
trusts. A `Worker` starts a fresh interpreter instead, and answers many questions.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import msgspec

from hauberk.errors import HauberkError, InputError, LimitError
from hauberk.sandbox.forkserver import Ended, Order
from hauberk.sandbox.frames import HEADER, Kind
from hauberk.sandbox.limits import Check, Limits
from hauberk.sandbox.worker import TimeLimitError, WorkerLostError, environment, explain

_START_LIMIT = 60.0
"""Seconds in which a server must have started and tried the limits, or imported what an order names."""
_PIECE = 1 << 18
_LONGEST_MESSAGE = 1 << 16


class ForkServer:
    """A process that forks limited children. May be used by several threads, one question at a time.

    Args:
        limits: Tried by effect while it starts, all but the processor time, which takes a second to use up.

    Attributes:
        checks: What came of that.

    Raises:
        WorkerLostError: It does not start.
    """

    def __init__(self, limits: Limits) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = _started(theirs.fileno())
        except OSError as error:
            self._control.close()
            raise WorkerLostError(f"the process that parses files does not start: {error}") from error
        try:
            self._control.settimeout(_START_LIMIT)
            self._control.send(msgspec.msgpack.encode(msgspec.structs.replace(limits, cpu_seconds=None)))
            self.checks = msgspec.msgpack.decode(self._control.recv(_LONGEST_MESSAGE), type=tuple[Check, ...])
        except (OSError, msgspec.MsgspecError) as error:
            self.close()
            raise WorkerLostError(f"the process that parses files does not start: {error}") from error

    @property
    def alive(self) -> bool:
        """Whether this process started it and it can still be asked."""
        return self._owner == os.getpid() and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    def ask(
        self,
        target: str,
        question: bytes,
        descriptors: Sequence[int] = (),
        *,
        limits: Limits,
        time_limit: float,
        longest_answer: int,
        imports: Sequence[str] = (),
    ) -> bytes:
        """Have a fresh child answer.

        Args:
            target: `module:function`, a `hauberk.sandbox.forkserver.Target`.
            question: Short: tens of kilobytes at most.
            descriptors: Handed to the child, which sees them under other numbers.
            limits: What the child puts itself under.
            time_limit: Seconds until it is killed; importing is not counted.
            longest_answer: Bytes; a longer answer counts as a fault.
            imports: Modules that the server imports before, or functions that it calls (`module:function`); both stay
                in memory for all that is asked later.

        Raises:
            InputError: The target refused the question, in the target's words.
            TimeLimitError: The time was over.
            LimitError: Another limit was reached.
            WorkerLostError: The child died or failed, or the server is gone.
        """
        with self._lock:
            ours, theirs = socket.socketpair()
            order = Order(target, question, limits, time_limit, tuple(imports))
            with ours:
                try:
                    with theirs:
                        message = [msgspec.msgpack.encode(order)]
                        socket.send_fds(self._control, message, [theirs.fileno(), *descriptors])
                    answer, ended = self._wait(ours, time_limit + _START_LIMIT, longest_answer)
                except (OSError, msgspec.MsgspecError) as error:
                    self.close()
                    raise WorkerLostError(f"the process that parses files is gone: {error}") from error
        return _outcome(answer, ended, time_limit, longest_answer)

    def close(self) -> None:
        """End it and its child; closing twice is allowed."""
        self._control.close()
        if self._owner == os.getpid() and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _wait(self, answers: socket.socket, patience: float, longest: int) -> tuple[bytes, Ended]:
        """What the child said, and how it ended; no more than `longest` bytes and a header are kept."""
        received = bytearray()
        deadline = time.monotonic() + patience
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while ready := poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            found = {descriptor for descriptor, _ in ready}
            if answers.fileno() in found:
                piece = answers.recv(_PIECE)
                received += piece if len(received) <= longest + HEADER.size else b""
                if not piece:
                    poll.unregister(answers)
            elif self._control.fileno() in found:  # after all of the answer has been read
                message = self._control.recv(_LONGEST_MESSAGE)
                if not message:
                    raise OSError("it closed the connection")
                return bytes(received), msgspec.msgpack.decode(message, type=Ended)
        raise OSError("it does not answer")


def _started(descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "hauberk.sandbox.forkserver", str(descriptor)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=environment(),
        start_new_session=True,  # signals from a terminal are for the starter
    )


def _outcome(answer: bytes, ended: Ended, time_limit: float, longest: int) -> bytes:
    if ended.late:
        raise TimeLimitError(f"no answer within the time limit of {time_limit:g} s")
    if ended.code is None:
        raise WorkerLostError(f"the worker process was not started: {ended.fault}")
    length, kind = HEADER.unpack_from(answer) if len(answer) >= HEADER.size else (0, None)
    payload = memoryview(answer)[HEADER.size :]
    if length > longest:
        raise WorkerLostError(f"the worker failed: an answer of {length} bytes, at most {longest} are taken")
    if kind is None or len(payload) != length or (kind == Kind.DATA and ended.code != 0):
        raise explain(ended.code)
    text = bytes(payload).decode(errors="replace") if kind != Kind.DATA else ""
    errors: dict[int, HauberkError] = {
        Kind.REFUSED: InputError(text),
        Kind.LIMIT: LimitError(text),
        Kind.FAULT: WorkerLostError(f"the worker failed ({text})"),
    }
    if kind in errors:
        raise errors[kind]
    return bytes(payload)
