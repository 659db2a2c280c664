"""A fork server: every question in a process of its own, each under its limits, and the server outlives them all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hauberk.errors import HauberkError, InputError, LimitError
from hauberk.sandbox.forks import ForkServer
from hauberk.sandbox.limits import MEBIBYTE, Limits
from hauberk.sandbox.process import NotStartedError, TimeLimitError, WorkerLostError, resident_memory

HERE = Path(__file__).parent
T = TypeVar("T")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.setenv("HAUBERK_TEST_KEY", "0" * 64)
        started = ForkServer(Limits(files=64, cpu_seconds=1))
    yield started
    started.close()


def ask(server: ForkServer, question: bytes, *descriptors: int, **options: Any) -> bytes:
    settings = {"limits": Limits(), "time_limit": 20.0, "longest_answer": 10_000_000} | options
    return server.ask("handlers:fork_commands", question, descriptors, **settings)


def test_limits_are_tried_while_it_starts_but_for_the_processor_time(server: ForkServer) -> None:
    assert {check.name: check.holds for check in server.checks} == {
        "files": True,
        "core": True,
        "unreadable": True,
        "privileges": True,
        "orphans": True,
    }


def test_every_question_is_answered_by_another_process(server: ForkServer) -> None:
    found = {ask(server, b"pid") for _ in range(3)}
    assert len(found) == 3
    assert str(server.pid).encode() not in found


def test_what_children_need_is_prepared_once_for_all_of_them(server: ForkServer) -> None:
    assert [ask(server, b"prepared", imports=("handlers:prepare",)) for _ in range(3)] == [b"1"] * 3


def test_a_child_knows_nothing_of_the_one_before(server: ForkServer) -> None:
    assert ask(server, b"remember") == b"0"
    assert ask(server, b"remember") == b"0"


def test_long_answers_arrive_whole(server: ForkServer) -> None:
    assert ask(server, b"long") == b"x" * 3_000_000


def test_descriptors_are_handed_over_and_nothing_else(server: ForkServer, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    one, two = (os.open(tmp_path / name, os.O_RDONLY) for name in ("one", "two"))
    try:
        assert ask(server, b"read", one, two) == b"one two"
        # Three of nothing, the connection, the file; and the folder that is being listed.
        assert len(ask(server, b"descriptors", one).split(b",")) == 3 + 1 + 1 + 1
    finally:
        os.close(one)
        os.close(two)


@pytest.mark.parametrize("limits", [Limits(read_only=()), Limits(read_only=(), network=False, system_calls="compute")])
def test_what_was_handed_over_may_be_opened_by_its_path_and_nothing_else(
    server: ForkServer, tmp_path: Path, limits: Limits
) -> None:
    (tmp_path / "file").write_text("content")
    memory = os.memfd_create("memory")
    os.write(memory, b"more")
    file = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        assert ask(server, b"open", file, memory, limits=limits) == b"content more"
        with pytest.raises(WorkerLostError, match="PermissionError"):
            ask(server, f"open {tmp_path}/file".encode(), limits=limits)
    finally:
        os.close(file)
        os.close(memory)


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (b"refuse", InputError, "this question is no good"),
        (b"limit", LimitError, "the model wants too much"),
        (b"take memory", LimitError, "out of memory"),
        (b"fail", WorkerLostError, r"the worker failed \(ZeroDivisionError\)"),
        (b"abort", WorkerLostError, "ended by SIGABRT"),
        (b"killed", WorkerLostError, "ended by SIGKILL"),
        (b"exit", WorkerLostError, "exit code 7"),
    ],
)
def test_a_child_that_ends_says_why_and_the_server_lives(
    server: ForkServer, question: bytes, error: type[HauberkError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(server, question, limits=Limits(memory=256 * MEBIBYTE))
    assert ask(server, b"next") == b"next"


@pytest.mark.parametrize("question", [b"spin", b"sleep inside C"])
def test_a_child_that_takes_too_long_is_ended(server: ForkServer, question: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(TimeLimitError, match=r"no answer within the time limit of 0\.3 s"):
        ask(server, question, time_limit=0.3)
    assert time.monotonic() - began < 10
    assert ask(server, b"next") == b"next"


def one_by_one(server: ForkServer, pause: str, time_limit: float) -> Generator[bytes]:
    settings = {"limits": Limits(), "time_limit": time_limit, "longest_answer": 100, "count": 20}
    return server.answers("handlers:one_by_one", pause.encode(), **settings)


def test_answers_that_each_come_in_time_have_one_limit_together(server: ForkServer) -> None:
    began, heard = time.monotonic(), 0
    with pytest.raises(TimeLimitError, match="no answer within the time limit of 1 s"):  # noqa: PT012 - as many as come
        for _ in one_by_one(server, "0.3", 1.0):
            heard += 1
    assert heard <= 3
    assert time.monotonic() - began < 5
    assert ask(server, b"next") == b"next"


def test_the_time_of_who_hears_the_answers_is_not_counted(server: ForkServer) -> None:
    answers = one_by_one(server, "0.001", 1.0)
    assert next(answers) == b"answer"
    time.sleep(1.2)
    assert len(list(answers)) == 19


def test_where_nothing_more_can_be_opened_no_server_is_said_to_start() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))  # what is open stays open
    try:
        with pytest.raises(NotStartedError, match="Too many open files"):
            ForkServer(Limits())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("victim", ["server", "prober"])
def test_where_the_limits_are_not_tried_to_the_end_no_server_starts_and_no_process_is_left(victim: str) -> None:
    """Nobody would know what the kernel keeps it from. The prober is stopped first: it shall not end by itself."""
    found: dict[str, int] = {}

    def kill(known: set[str]) -> None:
        found["server"] = int(eventually(lambda: children(os.getpid()) - known).pop())
        found["prober"] = int(eventually(lambda: children(found["server"])).pop())
        eventually(lambda: children(found["prober"]))  # it is at work
        os.kill(found["prober"], signal.SIGSTOP)
        os.kill(found[victim], signal.SIGKILL)

    killer = threading.Thread(target=kill, args=(children(os.getpid()),), daemon=True)
    killer.start()
    with pytest.raises(NotStartedError, match="does not start: it has ended"):
        ForkServer(Limits(memory=64 * MEBIBYTE, read_only=(), network=False))
    killer.join(timeout=10)
    assert set(found) == {"server", "prober"}
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found.values()))


def eventually(found: Callable[[], T]) -> T:
    """What is found within a few seconds."""
    deadline = time.monotonic() + 5
    while not (there := found()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return there


def children(pid: int) -> set[str]:
    """Of the first thread of a process."""
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_processor_time_is_limited(server: ForkServer) -> None:
    with pytest.raises(LimitError, match="used up its processor time"):
        ask(server, b"spin", limits=Limits(cpu_seconds=1))


def test_an_answer_that_is_too_long_is_a_fault_and_not_kept(server: ForkServer) -> None:
    with pytest.raises(WorkerLostError, match="an answer of 3000000 bytes, at most 1000 are taken"):
        ask(server, b"long", longest_answer=1000)


def test_an_answer_that_is_cut_is_a_fault(server: ForkServer) -> None:
    with pytest.raises(WorkerLostError, match="exit code 0"):
        ask(server, b"half an answer")


def test_a_child_cannot_speak_for_its_server(server: ForkServer) -> None:
    """It writes to every descriptor that it can find that its time was up; nobody listens."""
    assert ask(server, b"forge") == b"forged nothing"
    assert ask(server, b"next") == b"next"


def test_the_environment_is_not_inherited(server: ForkServer) -> None:
    assert b"HAUBERK_TEST_KEY" not in ask(server, b"environment")


def test_what_is_imported_stays_imported(server: ForkServer) -> None:
    assert ask(server, b"imported wave") == b"False"
    assert ask(server, b"imported wave", imports=["wave"]) == b"True"
    assert ask(server, b"imported wave") == b"True"


def test_a_server_imports_while_it_starts_and_says_later_what_it_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    server = ForkServer(Limits(files=64), ["wave", "nowhere_at_all", "colorsys"])
    try:
        assert all(check.holds for check in server.checks)
        assert ask(server, b"imported wave") == b"True"
        assert ask(server, b"imported colorsys") == b"False"
        with pytest.raises(WorkerLostError, match="not started: ModuleNotFoundError: No module named 'nowhere_at_all'"):
            ask(server, b"next", imports=["wave", "nowhere_at_all"])
    finally:
        server.close()


def test_a_module_that_is_not_there_is_named_and_the_server_lives(server: ForkServer) -> None:
    with pytest.raises(WorkerLostError, match="not started: ModuleNotFoundError: No module named 'nowhere_at_all'"):
        ask(server, b"next", imports=["nowhere_at_all"])
    assert ask(server, b"next") == b"next"


def test_several_threads_take_turns(server: ForkServer) -> None:
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(ask(server, b"%d" % n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [b"%d" % n for n in range(8)]


def test_a_server_that_was_killed_is_told_and_not_waited_for() -> None:
    server = ForkServer(Limits())
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="is gone"):
        ask(server, b"next")
    assert not server.alive


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/true"])
def test_a_server_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(WorkerLostError, match="does not start"):
        ForkServer(Limits())


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)], ids=str)
def test_how_the_starter_was_started_does_not_matter(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """It ignores the end of its children, and some of its standard streams are closed, so others get their numbers."""
    starter = (
        "import os, signal, sys\n"
        "from hauberk.sandbox.forks import ForkServer\n"
        "from hauberk.sandbox.limits import Limits\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "for number in map(int, sys.argv[2:]): os.close(number)\n"
        "server = ForkServer(Limits(files=64))\n"
        "held = all(check.holds for check in server.checks)\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "settings = dict(limits=Limits(), time_limit=60, longest_answer=99)\n"
        "read = server.ask('handlers:fork_commands', b'read', [file], **settings)\n"
        "os.pwrite(file, b' '.join([read, str(held).encode(), str(server.alive).encode()]), 0)\n"
        "server.close()\n"
    )
    (tmp_path / "file").write_bytes(b"content")
    command = [sys.executable, "-c", starter, str(tmp_path / "file"), *map(str, closed)]
    subprocess.run(command, check=True, timeout=60, env=os.environ | {"PYTHONPATH": str(HERE)})
    assert (tmp_path / "file").read_bytes() == b"content True True"


def test_server_and_child_end_with_their_starter() -> None:
    starter = (
        "import os, threading, time\n"
        "from hauberk.sandbox.forks import ForkServer\n"
        "from hauberk.sandbox.limits import Limits\n"
        "server = ForkServer(Limits())\n"
        "settings = dict(limits=Limits(), time_limit=60, longest_answer=99)\n"
        "ask = lambda: server.ask('handlers:fork_commands', b'spin', **settings)\n"
        "threading.Thread(target=ask, daemon=True).start()\n"
        "children = f'/proc/{server.pid}/task/{server.pid}/children'\n"
        "while not (child := open(children).read()): time.sleep(0.01)\n"
        "print(server.pid, child, flush=True)\n"
        "os._exit(0)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, "-c", starter], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(resident_memory(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [resident_memory(pid) for pid in pids] == [0, 0]
