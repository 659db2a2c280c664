"""The starter's handle on a worker process: start it, ask it, kill it. It knows nothing of what the worker computes.

A worker is a fresh interpreter, not a fork: nothing of the starter's memory, threads or files is in it. It answers one
question at a time. Where an answer takes too long the process is killed, because nothing less stops a native library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence

import msgspec

from hauberk.errors import HauberkError, InputError, LimitError
from hauberk.sandbox.frames import HEADER, Kind, Launch, connection
from hauberk.sandbox.limits import Limits
from hauberk.sandbox.process import TimeLimitError, WorkerLostError, environment, explain, resident_memory


class Worker:
    """One worker process. Made by `Worker.start`; belongs to the event loop that it was started in.

    Attributes:
        greeting: What the worker said about itself when it was ready.
        ended: Completes when the process is gone, with the error that says why.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.greeting = b""
        self.ended: asyncio.Future[HauberkError] = asyncio.get_running_loop().create_future()
        self._process = process
        self._transport: asyncio.WriteTransport
        self._answer: asyncio.Future[bytes] | None = None
        self._verdict: HauberkError | None = None

    @classmethod
    async def start(
        cls,
        target: str,
        setup: bytes,
        *,
        limits: Limits,
        time_limit: float,
        longest_answer: int,
        descriptors: Sequence[int] = (),
    ) -> Worker:
        """Start a process and wait until it is ready.

        Call it from a thread that lives as long as the worker shall: the kernel kills the worker with that thread.

        Args:
            target: `module:function` that takes `setup` and returns a `hauberk.sandbox.child.Handler`.
            setup: Sent over the connection, so it may hold keys.
            limits: What the process puts itself under before it imports the target.
            time_limit: Seconds until it must be ready.
            longest_answer: Bytes; a longer answer counts as a fault.
            descriptors: Open files that the worker inherits, under the same numbers.

        Raises:
            InputError: The target refused `setup`; the message is the target's.
            LimitError: It was not ready in time, or needed more than the limits allow.
            WorkerLostError: The process died.
        """
        ours, theirs = connection(socket.SOCK_STREAM)
        command = [sys.executable, "-P", "-m", "hauberk.sandbox.child", str(theirs.fileno())]
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                env=environment(),
                start_new_session=True,  # signals from a terminal are for the starter
            )
            undo.callback(process.kill)
            worker = cls(process)
            worker._transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(longest_answer, worker._receive, worker._disconnected), sock=ours
            )
            undo.pop_all()
        launch = Launch(target=target, limits=limits, parent=os.getpid())
        try:
            worker._send(msgspec.msgpack.encode(launch))
            worker.greeting = await worker.ask(setup, time_limit=time_limit)
        except BaseException:
            await worker.close()
            raise
        return worker

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process can still be asked."""
        return self._verdict is None and not self.ended.done()

    def memory(self) -> int:
        """Resident memory in bytes; 0 where the system does not tell or the process is gone."""
        return resident_memory(self.pid)

    async def ask(self, question: bytes, *, time_limit: float) -> bytes:
        """Ask one question; one at a time.

        A caller that is cancelled takes the worker down with it: nobody would know what the next answer belongs to.

        Args:
            question: What the target's handler receives.
            time_limit: Seconds; a worker that has not answered by then is killed.

        Raises:
            InputError: The handler refused the question; the worker lives on.
            TimeLimitError: The time was over; the worker is gone.
            LimitError: Another limit was reached; the worker is gone.
            WorkerLostError: The worker died, or failed and was ended.
        """
        if self._answer is not None:
            raise RuntimeError("a worker answers one question at a time")
        if not self.alive:
            raise WorkerLostError("the worker process is gone")
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._send(question)
        alarm = loop.call_later(time_limit, self._expire, time_limit)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            alarm.cancel()
            self._answer = None

    def kill(self, verdict: HauberkError | None = None) -> None:
        """End the process at once; a question under way fails with `verdict`."""
        if self._verdict is None:
            self._verdict = verdict or WorkerLostError("the worker process was stopped")
        if self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """End the process and wait until it is gone, whoever cancels the waiting: it takes milliseconds."""
        self.kill()
        cancelled: asyncio.CancelledError | None = None
        while not self.ended.done():
            try:
                await asyncio.shield(self.ended)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _send(self, payload: bytes) -> None:
        self._transport.writelines((HEADER.pack(len(payload), Kind.DATA), payload))

    def _expire(self, time_limit: float) -> None:
        self.kill(TimeLimitError(f"no answer within the time limit of {time_limit:g} s"))

    def _receive(self, kind: int, payload: bytes) -> None:
        """One whole frame has come."""
        text = payload.decode(errors="replace")
        if self._answer is None or self._answer.done():
            self.kill(WorkerLostError("the worker spoke without being asked"))
        elif kind == Kind.DATA:
            self._answer.set_result(payload)
        elif kind == Kind.REFUSED:
            self._answer.set_exception(InputError(text))
        elif kind == Kind.LIMIT:
            self.kill(LimitError(text))
        else:
            self.kill(WorkerLostError(f"the worker failed ({text})"))

    def _disconnected(self) -> None:
        """The connection is gone: make sure that the process is too, and find out why."""
        self._reaper = asyncio.get_running_loop().create_task(self._reap())

    async def _reap(self) -> None:
        try:
            await asyncio.wait_for(self._process.wait(), 1.0)
        except TimeoutError:  # it closed its end and lives on: no worker of ours does that
            self._process.kill()
            await self._process.wait()
        error = self._verdict or explain(self._process.returncode)
        self._verdict = error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.ended.set_result(error)


class _Connection(asyncio.Protocol):
    """Puts frames together and hands them on."""

    def __init__(self, longest: int, on_frame: Callable[[int, bytes], None], on_end: Callable[[], None]) -> None:
        self._longest = longest
        self._on_frame = on_frame
        self._on_end = on_end
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        self._received += data
        while len(self._received) >= HEADER.size:
            length, kind = HEADER.unpack_from(self._received)
            if length > self._longest:
                self._received.clear()
                self._on_frame(Kind.FAULT, f"an answer of {length} bytes, at most {self._longest} are taken".encode())
                return
            if len(self._received) < HEADER.size + length:
                return
            payload = bytes(memoryview(self._received)[HEADER.size : HEADER.size + length])
            del self._received[: HEADER.size + length]
            self._on_frame(kind, payload)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's signature
        """The other end is gone."""
        self._on_end()
