"""A model that blows up takes down its own worker, its own request, and nothing else."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hauberk.sandbox import seccomp

WORKERS = 3
TIME_LIMIT = 2
TOO_LONG = f"no answer within the time limit of {TIME_LIMIT} s"


@pytest.fixture(scope="module")
def server(serving: Any, keys: Any, plain_bundle: Path, trap_bundle: Path) -> Iterator[Any]:
    """Both models in one server; a request may take two seconds, and wait longer for a worker on a busy machine."""
    limits = ["--time-limit", str(TIME_LIMIT), "--wait-limit", "30", "--memory-limit", "1G"]
    arguments = [*limits, "--workers", str(WORKERS)]
    with serving([str(plain_bundle), str(trap_bundle), *keys.options, *arguments]) as server:
        yield server


def test_the_traps_are_harmless_when_nothing_is_asked_of_them(server: Any) -> None:
    assert server.trap()[0] == 200


@pytest.mark.parametrize(
    ("wanted", "status", "says"),
    [
        ({"memory": 1000}, 503, "more memory than a worker may have"),
        ({"rounds": 100_000}, 504, TOO_LONG),
        ({"size": 7000}, 504, TOO_LONG),
    ],
    ids=["a memory bomb", "a loop without end", "one long operation"],
)
def test_others_do_not_notice(server: Any, eventually: Any, wanted: dict[str, float], status: int, says: str) -> None:
    """Good requests, to both models, go on all the while and every single one is answered."""
    stop = threading.Event()
    answers: dict[str, list[tuple[int, str]]] = {"plain": [], "trap": []}

    def keep_asking(model: str) -> None:
        while not stop.is_set():
            plain = {"rate": 0.5, "protocol": "tcp", "packets": 1}
            status, document = server.trap() if model == "trap" else server.infer(model, **plain)
            answers[model].append((status, document.get("error", "")))

    others = [threading.Thread(target=keep_asking, args=(model,)) for model in answers]
    for thread in others:
        thread.start()
    try:
        outcome, document = server.trap(**wanted)
        assert eventually(lambda: len(server.workers()) == 2 * WORKERS)
    finally:
        stop.set()
        for thread in others:
            thread.join()
    assert outcome == status
    assert says in document["error"]
    for answered in answers.values():
        assert set(answered) == {(200, "")}


def test_an_error_tells_the_client_nothing_of_the_inside(server: Any) -> None:
    _, document = server.trap(memory=1000)
    assert document == {"error": "the request needs more memory than a worker may have"}


def test_the_operator_is_told_the_reason(server: Any, eventually: Any) -> None:
    before = len(server.errors)
    server.trap(memory=1000)
    assert eventually(lambda: any("needs more memory than allowed" in line for line in server.errors[before:]))


def test_replacements_are_counted(server: Any, eventually: Any) -> None:
    # Once all are there, nothing that a test before this one broke is still to be counted.
    assert eventually(lambda: len(server.workers()) == 2 * WORKERS)
    before = server.figure("hauberk_worker_restarts_total", "trap")
    server.trap(memory=1000)
    assert eventually(lambda: server.figure("hauberk_worker_restarts_total", "trap") == before + 1)


def test_a_worker_killed_from_outside_is_replaced(server: Any, eventually: Any) -> None:
    assert eventually(lambda: len(server.workers()) == 2 * WORKERS)
    victim = server.workers()[0]
    os.kill(victim, 9)
    assert eventually(lambda: victim not in server.workers() and len(server.workers()) == 2 * WORKERS)


def test_a_server_without_a_worker_is_live_but_not_ready(
    serving: Any, eventually: Any, keys: Any, plain_bundle: Path
) -> None:
    with serving([str(plain_bundle), *keys.options, "--workers", "1"]) as server:
        os.kill(server.workers()[0], 9)
        assert eventually(lambda: server.status("/v2/health/ready") == 503)
        assert server.status("/v2/health/live") == 200
        assert eventually(lambda: server.status("/v2/models/plain/ready") == server.status("/v2/health/ready") == 200)


def test_a_replacement_serves_the_same_file_although_its_name_is_gone(
    serving: Any, eventually: Any, keys: Any, plain_bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.hbk"
    copy.write_bytes(plain_bundle.read_bytes())
    with serving([str(copy), *keys.options, "--workers", "1"]) as server:
        copy.unlink()
        victim = server.workers()[0]
        os.kill(victim, 9)
        assert eventually(lambda: bool({*server.workers()} - {victim}))  # asked once: between two, it may have died
        # The process is there before it has opened the bundle, and a request waits for it only so long.
        assert eventually(lambda: server.status("/v2/models/plain/ready") == 200)
        status, document = server.infer("plain", rate=0.5, protocol="tcp", packets=1)
        assert status == 200, (document, server.errors)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into a worker")
def test_no_key_is_in_arguments_or_environment(serving: Any, keys: Any, plain_bundle: Path) -> None:
    secret = keys.encryption.to_text().decode().strip()
    options = ["--key-env", "TEST_KEY", "--trust", str(keys.folder / "test.pub")]
    with serving([str(plain_bundle), *options], {"TEST_KEY": secret}) as server:
        for pid in server.workers():
            shown = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            assert secret.encode() not in shown
            assert b"TEST_KEY" not in shown
        assert not any(secret in line for line in server.errors)


def test_workers_live_under_their_limits(server: Any, eventually: Any) -> None:
    assert eventually(lambda: len(server.workers()) == 2 * WORKERS)
    for pid in server.workers():
        worker = psutil.Process(pid)
        assert worker.rlimit(psutil.RLIMIT_DATA) == (1 << 30, 1 << 30)
        assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert worker.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.skipif(not seccomp.available(), reason="this kernel has no filters of system calls")
def test_workers_live_behind_a_filter_of_system_calls(server: Any, eventually: Any) -> None:
    """What the filter and the closed files are worth is tried in tests/sandbox; here, that workers have them."""
    assert eventually(lambda: len(server.workers()) == 2 * WORKERS)
    for pid in server.workers():
        assert "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
    assert not any("cannot refuse" in line or "does not keep" in line for line in server.errors)
