"""The starter's handle on a fork server: ask something that is answered in a process of its own, made in milliseconds.

For work that needs large libraries and little time, and of which every piece must be alone: parsing files that nobody
trusts. A `Worker` starts a fresh interpreter instead, and answers many questions.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence

import msgspec

from hauberk.errors import HauberkError, InputError, LimitError
from hauberk.sandbox.forkserver import STOP, Ended, Order, Start
from hauberk.sandbox.frames import HEADER, Kind, connection
from hauberk.sandbox.limits import Check, Limits
from hauberk.sandbox.process import NotStartedError, TimeLimitError, WorkerLostError, environment, explain

_START_LIMIT = 60.0
"""Seconds in which a server must have started and tried the limits, or imported what an order names."""
_PIECE = 1 << 18
_LONGEST_MESSAGE = 1 << 16


class ForkServer:
    """A process that forks limited children. May be used by several threads, one question at a time.

    Args:
        limits: Tried by effect while it starts, all but the processor time, which takes a second to use up.
        imports: What it imports meanwhile, as in `ask`, for orders that name the same.

    Attributes:
        checks: What came of that.

    Raises:
        NotStartedError: It does not start.
    """

    def __init__(self, limits: Limits, imports: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._control, theirs = _pair(socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = _started(theirs.fileno())
        except OSError as error:
            self._control.close()
            raise NotStartedError(f"the process that parses files does not start: {error}") from error
        try:
            self._control.settimeout(_START_LIMIT)
            start = Start(msgspec.structs.replace(limits, cpu_seconds=None), tuple(imports))
            self._control.send(msgspec.msgpack.encode(start))
            self.checks = msgspec.msgpack.decode(_received(self._control), type=tuple[Check, ...])
        except (OSError, msgspec.MsgspecError) as error:
            self.close()
            raise NotStartedError(f"the process that parses files does not start: {error}") from error

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
            imports: Modules that the server imports before, or functions that it calls (`module:function`), each once;
                what they leave in memory is there for all that is asked later.

        Raises:
            InputError: The target refused the question, in the target's words.
            TimeLimitError: The time was over.
            LimitError: Another limit was reached.
            NotStartedError: What it needs cannot be imported here.
            WorkerLostError: The child died or failed, or the server is gone.
        """
        order = Order(target, question, limits, time_limit, tuple(imports), by_path=True)
        with self._lock, self._at_work(order, descriptors, longest_answer) as talk:
            answer = talk.frame(time_limit + _START_LIMIT)
            if answer is not None and answer[0] != Kind.DATA:
                return _payload(answer, talk.ended, time_limit)  # which raises what it says
            # An answer counts only where its child ends in order.
            if answer is not None and talk.frame(time_limit + _START_LIMIT) is not None:
                raise WorkerLostError("the worker spoke without being asked")
            if talk.ended is None:
                raise OSError("it does not answer")
            return _payload(answer if talk.ended.code == 0 else None, talk.ended, time_limit)

    def answers(
        self,
        target: str,
        question: bytes,
        descriptors: Sequence[int] = (),
        *,
        count: int,
        limits: Limits,
        time_limit: float,
        longest_answer: int,
        imports: Sequence[str] = (),
        by_path: bool = False,
    ) -> Generator[bytes]:
        """Have a fresh child answer several times, and hear each answer as soon as it is given.

        Until the last one has been heard, or the iterator is closed, which kills the child, nothing else can be asked.

        Args:
            target: As in `ask`; it must return an iterator.
            question: As in `ask`.
            descriptors: As in `ask`.
            count: Answers that must come, no more and no fewer.
            limits: As in `ask`; they are for all answers together.
            time_limit: Seconds that are waited for answers, for all of them together: who could take as long for each
                would hold up the asker for so many times that. What the asker does between them is not counted.
            longest_answer: As in `ask`, for each.
            imports: As in `ask`.
            by_path: Whether the child may open by their paths what it is handed.

        Raises:
            HauberkError: As `ask`, after the answers that were given before.
        """
        order = Order(target, question, limits, None, tuple(imports), by_path=by_path)
        with self._lock, self._at_work(order, descriptors, longest_answer) as talk:
            begun = talk.frame(time_limit + _START_LIMIT)
            if begun is None and talk.ended is None:
                raise OSError("it does not answer")
            if begun != (Kind.BEGUN, b""):
                _payload(begun, talk.ended, time_limit)
                raise WorkerLostError("the worker answered before it had begun")
            left = time_limit
            for _ in range(count):
                asked = time.monotonic()
                answer = talk.frame(left)
                left -= time.monotonic() - asked
                yield _payload(answer, talk.ended, time_limit)

    def close(self) -> None:
        """End it and its child; closing twice is allowed."""
        self._control.close()
        if self._owner == os.getpid() and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @contextlib.contextmanager
    def _at_work(self, order: Order, descriptors: Sequence[int], longest: int) -> Iterator[_Talk]:
        """Give an order, and see to it that no child is left when the block ends, however it ends."""
        ours, theirs = _pair(socket.SOCK_STREAM)
        with ours:
            talk = _Talk(ours, self._control, longest)
            given = False
            try:
                with theirs:
                    message = [msgspec.msgpack.encode(order)]
                    socket.send_fds(self._control, message, [theirs.fileno(), *descriptors])
                given = True
                yield talk
            except (OSError, msgspec.MsgspecError) as error:
                self.close()
                raise WorkerLostError(f"the process that parses files is gone: {error}") from error
            finally:
                if given and talk.ended is None and self._control.fileno() >= 0:
                    self._stop()
                elif not given:
                    self.close()

    def _stop(self) -> None:
        """Have the child killed, and hear that it is gone."""
        try:
            self._control.send(STOP)
            self._control.recv(_LONGEST_MESSAGE)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise


class _Talk:
    """What a child says, and how it ended.

    Args:
        answers: Where it answers.
        control: Where its server tells of its end.
        longest: Bytes of an answer.

    Attributes:
        ended: How it ended; `None` as long as that was not heard.
    """

    def __init__(self, answers: socket.socket, control: socket.socket, longest: int) -> None:
        self.ended: Ended | None = None
        self._answers = answers
        self._control = control
        self._longest = longest
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(answers, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def frame(self, seconds: float) -> tuple[int, bytes] | None:
        """Kind and payload of the next frame; `None` where the child has ended, or time is up.

        Raises:
            WorkerLostError: It is longer than what is taken.
            OSError: The server is gone.
            msgspec.MsgspecError: The server talks nonsense.
        """
        deadline = time.monotonic() + seconds
        while (frame := self._first()) is None and self.ended is None:
            ready = self._poll.poll(max(0.0, 1000 * (deadline - time.monotonic())))
            if not ready:
                return None
            if any(descriptor == self._answers.fileno() for descriptor, _ in ready):
                piece = self._answers.recv(_PIECE)
                self._received += piece
                if not piece:
                    self._poll.unregister(self._answers)
            else:  # after all of the answers has been read
                self.ended = msgspec.msgpack.decode(_received(self._control), type=Ended)
        return frame

    def _first(self) -> tuple[int, bytes] | None:
        if len(self._received) < HEADER.size:
            return None
        length, kind = HEADER.unpack_from(self._received)
        if length > self._longest:
            raise WorkerLostError(f"the worker failed: an answer of {length} bytes, at most {self._longest} are taken")
        end = HEADER.size + length
        if len(self._received) < end:
            return None
        payload = bytes(memoryview(self._received)[HEADER.size : end])
        del self._received[:end]
        return kind, payload


def _received(control: socket.socket) -> bytes:
    """The next message of a server; raises `OSError` where it has ended."""
    message = control.recv(_LONGEST_MESSAGE)
    if not message:
        raise OSError("it has ended")
    return message


def _pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection; raises `NotStartedError` where this process may open no more."""
    try:
        return connection(kind)
    except OSError as error:
        raise NotStartedError(f"no connection to a process that parses files can be made: {error}") from error


def _started(descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "hauberk.sandbox.forkserver", str(descriptor)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=environment(),
        start_new_session=True,  # signals from a terminal are for the starter
    )


def _payload(frame: tuple[int, bytes] | None, ended: Ended | None, time_limit: float) -> bytes:
    """The answer in a frame, or the error that stands there instead."""
    if frame is None:
        if ended is None or ended.late:
            raise TimeLimitError(f"no answer within the time limit of {time_limit:g} s")
        if ended.code is None:
            raise NotStartedError(f"the worker process was not started: {ended.fault}")
        raise explain(ended.code)
    kind, payload = frame
    if kind == Kind.DATA:
        return payload
    text = payload.decode(errors="replace")
    errors: dict[int, HauberkError] = {Kind.REFUSED: InputError(text), Kind.LIMIT: LimitError(text)}
    raise errors.get(kind) or WorkerLostError(f"the worker failed ({text})")
