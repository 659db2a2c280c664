"""Pools of real worker processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from hauberk.errors import LimitError
from hauberk.sandbox.limits import Limits
from hauberk.sandbox.process import TimeLimitError, WorkerLostError
from hauberk.sandbox.worker import Worker
from hauberk.serve.pool import OverloadedError, WorkerPool

T = TypeVar("T")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def with_pool(
    body: Callable[[WorkerPool], Awaitable[T]],
    *,
    target: str = "sleeper",
    setup: bytes = b"",
    size: int = 2,
    queue: int = 10,
    time_limit: float = 20.0,
    wait_limit: float = 20.0,
    start: float = 0.0,
    restarts: list[None] | None = None,
) -> T:
    async def launch() -> Worker:
        await asyncio.sleep(start)
        return await Worker.start(f"handlers:{target}", setup, limits=Limits(), time_limit=20, longest_answer=1000)

    async def run() -> T:
        counter = [] if restarts is None else restarts
        pool = WorkerPool(
            "test",
            launch,
            size=size,
            queue=queue,
            time_limit=time_limit,
            wait_limit=wait_limit,
            on_restart=lambda: counter.append(None),
        )
        await pool.start()
        try:
            return await body(pool)
        finally:
            await pool.stop()

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_workers_answer_at_the_same_time() -> None:
    async def body(pool: WorkerPool) -> tuple[set[bytes], float]:
        began = time.monotonic()
        answers = await asyncio.gather(pool.ask(b"0.5"), pool.ask(b"0.5"))
        return set(answers), time.monotonic() - began

    pids, seconds = with_pool(body)
    assert len(pids) == 2
    assert seconds < 0.9


def test_more_requests_than_workers_wait_their_turn() -> None:
    async def body(pool: WorkerPool) -> list[bytes]:
        return await asyncio.gather(*(pool.ask(b"0.01") for _ in range(10)))

    assert len(with_pool(body)) == 10


def test_a_full_queue_turns_away_at_once() -> None:
    async def body(pool: WorkerPool) -> None:
        busy = [asyncio.ensure_future(pool.ask(b"0.3")) for _ in range(2)]
        await asyncio.sleep(0)
        assert pool.waiting == 1
        with pytest.raises(OverloadedError, match="1 requests are waiting already"):
            await pool.ask(b"0")
        await asyncio.gather(*busy)

    with_pool(body, size=1, queue=1)


def test_waiting_has_an_end() -> None:
    async def body(pool: WorkerPool) -> None:
        # The first request takes the only worker for longer than the second may wait.
        first = asyncio.ensure_future(pool.ask(b"0.6"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match=r"no worker was free within 0\.2 s"):
            await pool.ask(b"0")
        await first

    with_pool(body, size=1, wait_limit=0.2)


def test_a_request_waits_longer_for_a_worker_than_it_may_take_one() -> None:
    """However long a worker takes to start on a busy machine: the request has no part in that."""

    async def body(pool: WorkerPool) -> None:
        outcomes = await asyncio.gather(pool.ask(b"60"), pool.ask(b"60"), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {TimeLimitError}
        await until(lambda: not pool.ready)
        await asyncio.gather(*(pool.ask(b"0") for _ in range(4)))

    with_pool(body, size=2, time_limit=1.0, start=1.5)


def test_a_dead_worker_is_replaced_and_counted() -> None:
    restarts: list[None] = []

    async def body(pool: WorkerPool) -> set[bytes]:
        with pytest.raises(WorkerLostError):
            await pool.ask(b"die")
        await until(lambda: bool(restarts) and pool.ready and len(pool.memory()) == 2)
        return set(await asyncio.gather(pool.ask(b"0.5"), pool.ask(b"0.5")))

    assert len(with_pool(body, restarts=restarts)) == 2
    assert len(restarts) == 1


def test_an_idle_worker_that_dies_is_replaced() -> None:
    async def body(pool: WorkerPool) -> tuple[int, int]:
        before = int(await pool.ask(b"0"))
        os.kill(before, 9)
        await until(lambda: not pool.ready)
        return before, int(await pool.ask(b"0"))  # waits for the replacement

    before, after = with_pool(body, size=1)
    assert before != after


def test_a_slow_answer_fails_alone() -> None:
    async def body(pool: WorkerPool) -> list[bytes]:
        slow = asyncio.ensure_future(pool.ask(b"60"))
        answers = [await pool.ask(b"0.05") for _ in range(20)]
        with pytest.raises(LimitError, match="time limit"):
            await slow
        return answers

    assert len(with_pool(body, time_limit=0.6)) == 20


def test_those_who_wait_do_not_notice_a_death() -> None:
    async def body(pool: WorkerPool) -> list[bytes | BaseException]:
        return await asyncio.gather(pool.ask(b"die"), *(pool.ask(b"0.01") for _ in range(5)), return_exceptions=True)

    first, *others = with_pool(body, size=1)
    assert isinstance(first, WorkerLostError)
    assert all(isinstance(answer, bytes) for answer in others)


def test_a_replacement_that_does_not_start_is_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "greeting"
    file.write_bytes(b"hello")

    async def body(pool: WorkerPool) -> bytes:
        file.rename(tmp_path / "elsewhere")
        with pytest.raises(WorkerLostError):
            await pool.ask(b"die")
        await asyncio.sleep(0.5)
        assert not pool.ready
        (tmp_path / "elsewhere").rename(file)
        return await pool.ask(b"0")

    assert with_pool(body, target="from_file", setup=str(file).encode(), size=1)


def test_a_replacement_that_is_something_else_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "greeting"
    file.write_bytes(b"hello")

    async def body(pool: WorkerPool) -> None:
        file.write_bytes(b"another model")
        with pytest.raises(WorkerLostError):
            await pool.ask(b"die")
        with pytest.raises(OverloadedError):
            await pool.ask(b"0")
        assert not pool.ready

    with_pool(body, target="from_file", setup=str(file).encode(), size=1, wait_limit=1.0)


def test_a_pool_of_which_one_worker_does_not_start_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError, match="FileNotFoundError"):
        with_pool(lambda pool: pool.ask(b"0"), target="from_file", setup=str(tmp_path / "none").encode())


def test_stopping_ends_the_workers_and_answers_everyone() -> None:
    async def body(pool: WorkerPool) -> tuple[list[bytes | BaseException], int]:
        asked = [asyncio.ensure_future(pool.ask(b"60")) for _ in range(3)]
        await asyncio.sleep(0.1)
        await pool.stop()
        return await asyncio.gather(*asked, return_exceptions=True), len(pool.memory())

    outcomes, alive = with_pool(body)
    assert [type(outcome) for outcome in outcomes] == [WorkerLostError, WorkerLostError, OverloadedError]
    assert alive == 0
