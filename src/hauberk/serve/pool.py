"""The workers of one model: who answers next, who waits, and who replaces the dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from hauberk.errors import HauberkError, LimitError
from hauberk.sandbox.worker import Worker

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
"""Seconds between attempts to replace a worker that does not start; doubled each time."""

_logger = logging.getLogger(__name__)


class OverloadedError(LimitError):
    """No worker was free in time, or too many requests wait already."""


class WorkerPool:
    """A fixed number of workers that all do the same; one that dies is replaced.

    Args:
        name: For messages.
        launch: Starts a worker.
        size: How many.
        queue: How many requests may wait; further ones are turned away.
        time_limit: Seconds that a request may take a worker.
        wait_limit: Seconds that a request may wait for one. That is no matter of the request: it depends on the others,
            and on how long this machine takes to start a worker.
        on_restart: Called when a worker is gone and a replacement is about to be started.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], Awaitable[Worker]],
        *,
        size: int,
        queue: int,
        time_limit: float,
        wait_limit: float,
        on_restart: Callable[[], None],
    ) -> None:
        self.greeting = b""
        self._name = name
        self._launch = launch
        self._size = size
        self._queue = queue
        self._time_limit = time_limit
        self._wait_limit = wait_limit
        self._on_restart = on_restart
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._replacing: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Start every worker and wait until all are ready.

        Raises:
            HauberkError: One does not start; the others are ended again.
        """
        starts = [asyncio.ensure_future(self._launch()) for _ in range(self._size)]
        try:
            workers = await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            for outcome in await asyncio.gather(*starts, return_exceptions=True):
                if isinstance(outcome, Worker):
                    await outcome.close()
            raise
        self.greeting = workers[0].greeting
        for worker in workers:
            self._welcome(worker)

    @property
    def ready(self) -> bool:
        """Whether at least one worker lives."""
        return bool(self._workers)

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._waiting)

    def memory(self) -> tuple[int, ...]:
        """Resident memory in bytes of each live worker."""
        return tuple(worker.memory() for worker in self._workers)

    async def ask(self, question: bytes) -> bytes:
        """Have some worker answer a question.

        Raises:
            OverloadedError: No worker was free in time, or too many wait already.
            LimitError: The answer takes too much time or memory; its worker is being replaced.
            WorkerLostError: The worker died on it and is being replaced.
        """
        worker = self._take_idle() or await self._wait()
        while not worker.alive:  # it died between being handed over and now
            worker = self._take_idle() or await self._wait()
        try:
            return await worker.ask(question, time_limit=self._time_limit)
        finally:
            self._give_back(worker)

    async def stop(self) -> None:
        """End every worker; whoever is being answered or waits gets an error."""
        self._stopped = True
        replacing = tuple(self._replacing)
        for task in replacing:
            task.cancel()
        await asyncio.gather(*replacing, return_exceptions=True)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(OverloadedError("the server is being stopped"))
        await asyncio.gather(*(worker.close() for worker in tuple(self._workers)))

    def _take_idle(self) -> Worker | None:
        # The one that answered last: its memory is still in the processor's caches.
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
        return None

    async def _wait(self) -> Worker:
        if len(self._waiting) >= self._queue:
            raise OverloadedError(f"{self._queue} requests are waiting already; try again later")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Worker] = loop.create_future()
        self._waiting.append(waiter)
        alarm = loop.call_later(self._wait_limit, self._expire, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())  # it was handed a worker in the very moment that it was cancelled
            raise
        finally:
            alarm.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _expire(self, waiter: asyncio.Future[Worker]) -> None:
        if not waiter.done():
            waiter.set_exception(OverloadedError(f"no worker was free within {self._wait_limit:g} s; try again later"))

    def _give_back(self, worker: Worker) -> None:
        if not worker.alive or self._stopped:
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self._idle.append(worker)

    def _welcome(self, worker: Worker) -> None:
        self._workers.add(worker)
        worker.ended.add_done_callback(lambda ended: self._lost(worker, ended.result()))
        self._give_back(worker)

    def _lost(self, worker: Worker, reason: HauberkError) -> None:
        self._workers.discard(worker)
        with contextlib.suppress(ValueError):
            self._idle.remove(worker)
        if self._stopped:
            return
        _logger.warning("model %s: replacing a worker: %s", self._name, reason)
        self._on_restart()
        task = asyncio.get_running_loop().create_task(self._replace())
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                worker = await self._launch()
            except (HauberkError, OSError) as error:
                _logger.warning("model %s: a worker does not start: %s", self._name, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if worker.greeting == self.greeting:
                self._welcome(worker)
                return
            await worker.close()
            _logger.warning("model %s: the bundle's file has changed; restart the server to serve it", self._name)
            await asyncio.sleep(_LONGEST_PAUSE)
