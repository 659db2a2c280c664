"""Starting and stopping: what is under way is finished, what is new is refused, nothing is left behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from hauberk.sandbox.process import resident_memory

LONG = {"size": 4000}
"""A request that takes about a second, more on a slow machine."""


def under_way(server: Any) -> bool:
    return bool(server.figure("hauberk_requests_in_flight", "trap") == 1)


def refuses(server: Any) -> bool:
    host, port = server.host.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_under_way_are_finished_and_new_ones_refused(
    serving: Any, eventually: Any, keys: Any, trap_bundle: Path, number: int
) -> None:
    arguments = [str(trap_bundle), *keys.options, "--time-limit", "30"]
    with serving(arguments) as server, ThreadPoolExecutor() as threads:
        request = threads.submit(server.trap, **LONG)
        assert eventually(lambda: under_way(server))
        server.process.send_signal(number)
        assert eventually(lambda: refuses(server))
        assert not request.done()
        assert request.result()[0] == 200
        assert server.process.wait(20) == 0


def test_no_process_is_left_behind(serving: Any, keys: Any, trap_bundle: Path) -> None:
    with serving([str(trap_bundle), *keys.options]) as server:
        workers = server.workers()
        assert len(workers) == 2
        assert server.stop() == 0
        assert not any(psutil.pid_exists(pid) for pid in workers)


def test_idle_connections_do_not_delay_the_stop(serving: Any, keys: Any, trap_bundle: Path) -> None:
    with serving([str(trap_bundle), *keys.options]) as server:
        host, port = server.host.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000)
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 5


def test_a_second_signal_cuts_short(serving: Any, eventually: Any, keys: Any, trap_bundle: Path) -> None:
    arguments = [str(trap_bundle), *keys.options, "--time-limit", "60"]
    with serving(arguments) as server, ThreadPoolExecutor() as threads:
        request = threads.submit(server.trap, rounds=100_000)
        assert eventually(lambda: under_way(server))
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: refuses(server))
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        assert request.result()[0] == 503


def test_workers_do_not_outlive_a_server_that_is_killed(
    serving: Any, eventually: Any, keys: Any, trap_bundle: Path
) -> None:
    with serving([str(trap_bundle), *keys.options]) as server:
        workers = server.workers()
        server.stop(signal.SIGKILL)
        assert eventually(lambda: not any(resident_memory(pid) for pid in workers), limit=5)


def test_a_signal_while_starting_is_heeded(eventually: Any, keys: Any, trap_bundle: Path) -> None:
    options = ["--port", "0", "--workers", "8", *keys.options]
    process = subprocess.Popen([sys.executable, "-m", "hauberk", "serve", str(trap_bundle), *options])
    try:
        assert eventually(lambda: len(psutil.Process(process.pid).children()) >= 8)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_the_port_of_another_server_is_not_shared(
    serving: Any, keys: Any, plain_bundle: Path, trap_bundle: Path
) -> None:
    with serving([str(plain_bundle), *keys.options]) as server:
        port = server.host.split(":")[1]
        command = [sys.executable, "-m", "hauberk", "serve", "--port", port, str(trap_bundle), *keys.options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert done.stderr == f"hauberk: cannot listen on 127.0.0.1 port {port}: address already in use\n"


def test_an_address_of_version_6_is_listened_on(serving: Any, keys: Any, plain_bundle: Path) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with serving([str(plain_bundle), *keys.options, "--host", "::1"]) as server:
        assert server.address.startswith("http://[::1]:")
        port = int(server.address.rpartition(":")[2])
        with socket.create_connection(("::1", port)) as connection:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
