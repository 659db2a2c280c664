"""Real worker processes, asked real questions, and killed for good reasons."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from hauberk.errors import HauberkError, InputError, LimitError
from hauberk.sandbox.limits import MEBIBYTE, Limits
from hauberk.sandbox.process import WorkerLostError, resident_memory
from hauberk.sandbox.worker import Worker

T = TypeVar("T")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


async def start(
    target: str = "commands", setup: bytes = b"", limits: Limits | None = None, **options: object
) -> Worker:
    settings = {"time_limit": 20.0, "longest_answer": 10_000_000} | options
    return await Worker.start(f"handlers:{target}", setup, limits=limits or Limits(), **settings)  # type: ignore[arg-type]


def with_worker(body: Callable[[Worker], Awaitable[T]], **options: object) -> T:
    async def run() -> T:
        worker = await start(**options)  # type: ignore[arg-type]
        try:
            return await body(worker)
        finally:
            await worker.close()

    return asyncio.run(run())


def ask(*questions: bytes, limit: float = 20.0, **options: object) -> list[bytes]:
    async def body(worker: Worker) -> list[bytes]:
        return [await worker.ask(question, time_limit=limit) for question in questions]

    return with_worker(body, **options)


def test_greets_and_answers_in_order() -> None:
    async def body(worker: Worker) -> tuple[bytes, list[bytes]]:
        return worker.greeting, [await worker.ask(question, time_limit=20) for question in (b"1", b"", b"3")]

    assert with_worker(body) == (b"ready", [b"1", b"", b"3"])


@pytest.mark.parametrize("closed", ["0", "0 1 2"])
def test_a_starter_without_standard_streams_is_answered(tmp_path: Path, closed: str) -> None:
    starter = (
        "import asyncio, os, pathlib, sys\n"
        "from hauberk.sandbox.limits import Limits\n"
        "from hauberk.sandbox.worker import Worker\n"
        "for number in sys.argv[2].split(): os.close(int(number))\n"
        "async def run():\n"
        "    worker = await Worker.start('handlers:commands', b'', limits=Limits(), time_limit=20, longest_answer=99)\n"
        "    pathlib.Path(sys.argv[1]).write_bytes(await worker.ask(b'next', time_limit=20))\n"
        "    await worker.close()\n"
        "asyncio.run(run())\n"
    )
    subprocess.run([sys.executable, "-c", starter, str(tmp_path / "answer"), closed], check=True, timeout=60)
    assert (tmp_path / "answer").read_bytes() == b"next"


def test_long_questions_and_answers_arrive_whole() -> None:
    question = os.urandom(5_000_000)
    assert ask(question, b"long") == [question, b"x" * 3_000_000]


def test_setup_travels_over_the_connection_only() -> None:
    secret, arguments, environment = ask(b"setup", b"arguments", b"environment", setup=b"the key")
    assert secret == b"the key"
    assert b"the key" not in arguments + environment


def test_the_environment_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAUBERK_TEST_KEY", "0" * 64)
    assert b"HAUBERK_TEST_KEY" not in ask(b"environment")[0]


def test_a_descriptor_is_inherited(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcdef")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        assert ask(b"read 3", setup=str(descriptor).encode(), descriptors=[descriptor]) == [b"abc"]
    finally:
        os.close(descriptor)


def test_other_files_stay_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcdef")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        with pytest.raises(WorkerLostError, match="OSError"):
            ask(b"read 3", setup=str(descriptor).encode())
    finally:
        os.close(descriptor)


def test_a_refused_question_leaves_the_worker_alive() -> None:
    async def body(worker: Worker) -> bytes:
        with pytest.raises(InputError, match="this question is no good"):
            await worker.ask(b"refuse", time_limit=20)
        return await worker.ask(b"next", time_limit=20)

    assert with_worker(body) == b"next"


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (b"limit", LimitError, "the model wants too much"),
        (b"take memory", LimitError, "out of memory"),
        (b"fail", WorkerLostError, r"the worker failed \(ZeroDivisionError\)"),
        (b"abort", WorkerLostError, "ended by SIGABRT"),
        (b"killed", WorkerLostError, "ended by SIGKILL"),
        (b"exit", WorkerLostError, "exit code 7"),
    ],
)
def test_a_question_that_ends_the_worker_says_why(question: bytes, error: type[HauberkError], message: str) -> None:
    async def body(worker: Worker) -> bool:
        with pytest.raises(error, match=message):
            await worker.ask(question, time_limit=20)
        await asyncio.wait_for(asyncio.shield(worker.ended), 5)
        return worker.alive

    assert not with_worker(body, limits=Limits(memory=256 * MEBIBYTE))


@pytest.mark.parametrize("question", [b"spin", b"sleep inside C"])
def test_a_question_that_takes_too_long_is_ended(question: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(LimitError, match=r"no answer within the time limit of 0\.3 s"):
        ask(question, limit=0.3)
    assert time.monotonic() - began < 10


def test_processor_time_is_limited() -> None:
    with pytest.raises(LimitError, match="used up its processor time"):
        ask(b"spin", limits=Limits(cpu_seconds=1))


def test_an_answer_that_is_too_long_ends_the_worker() -> None:
    with pytest.raises(WorkerLostError, match="an answer of 3000000 bytes, at most 1000 are taken"):
        ask(b"long", longest_answer=1000)


def test_a_worker_that_speaks_out_of_turn_is_ended() -> None:
    async def body(worker: Worker) -> HauberkError:
        await worker.ask(b"speak twice", time_limit=20)
        return await asyncio.wait_for(asyncio.shield(worker.ended), 5)

    assert "without being asked" in str(with_worker(body))


def test_setup_errors_reach_the_starter() -> None:
    with pytest.raises(InputError, match="cannot be set up with this"):
        ask(target="refusing", setup=b"this")


def test_a_slow_start_is_ended() -> None:
    with pytest.raises(LimitError, match="time limit"):
        ask(target="slow", time_limit=1.0)


def test_a_death_during_the_start_is_told() -> None:
    with pytest.raises(WorkerLostError, match="exit code 3"):
        ask(target="dying")


def test_an_idle_worker_that_dies_is_noticed() -> None:
    async def body(worker: Worker) -> HauberkError:
        os.kill(worker.pid, 15)
        return await asyncio.wait_for(asyncio.shield(worker.ended), 5)

    assert "SIGTERM" in str(with_worker(body))


def test_a_cancelled_caller_takes_the_worker_down() -> None:
    async def body(worker: Worker) -> bool:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.ask(b"spin", time_limit=20), 0.1)
        await asyncio.wait_for(asyncio.shield(worker.ended), 5)
        return worker.alive

    assert not with_worker(body)


def test_two_questions_at_once_are_a_programming_error() -> None:
    async def body(worker: Worker) -> None:
        first = asyncio.ensure_future(worker.ask(b"1", time_limit=20))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one question at a time"):
            await worker.ask(b"2", time_limit=20)
        assert await first == b"1"

    with_worker(body)


def test_memory_is_told_and_zero_once_it_is_gone() -> None:
    async def body(worker: Worker) -> tuple[int, int]:
        alive = worker.memory()
        await worker.close()
        return alive, worker.memory()

    alive, gone = with_worker(body)
    assert alive > MEBIBYTE
    assert gone == 0


def test_own_memory_agrees_with_psutil() -> None:
    import psutil

    assert resident_memory(os.getpid()) == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_a_worker_dies_with_its_starter() -> None:
    starter = (
        "import asyncio, os\n"
        "from hauberk.sandbox.limits import Limits\n"
        "from hauberk.sandbox.worker import Worker\n"
        "async def main():\n"
        "    worker = await Worker.start('handlers:commands', b'', limits=Limits(), time_limit=20, longest_answer=99)\n"
        "    asyncio.ensure_future(worker.ask(b'spin', time_limit=60))\n"
        "    await asyncio.sleep(0.2)\n"
        "    print(worker.pid, flush=True)\n"
        "    os._exit(0)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=True, timeout=60)
    deadline = time.monotonic() + 5
    while resident_memory(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert resident_memory(int(done.stdout)) == 0
