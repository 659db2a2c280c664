"""`hauberk.serve.server.serve`, called as a program of one's own would."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PROGRAM = """
import sys
from pathlib import Path
from hauberk.serve.options import ServeOptions
from hauberk.serve.server import serve
from hauberk.trust import TrustPolicy, key_from_file, public_key_from_file

bundle, key, signer = map(Path, sys.argv[1:])
serve(
    [bundle],
    key=key_from_file(key),
    trust=TrustPolicy((public_key_from_file(signer),)),
    options=ServeOptions(port=0, workers=1, body_limit=0.5),
    on_listening=lambda listening: print(f"listening on {listening.address}, ready", file=sys.stderr, flush=True),
)
"""


@pytest.fixture(scope="module")
def server(serving: Any, keys: Any, plain_bundle: Path) -> Iterator[Any]:
    arguments = [str(plain_bundle), str(keys.folder / "test.key"), str(keys.folder / "test.pub")]
    with serving(arguments, program=["-c", PROGRAM]) as server:
        yield server


def test_it_answers(server: Any) -> None:
    assert server.infer("plain", rate=0.5, protocol="tcp", packets=1)[0] == 200


def test_a_body_that_does_not_come_is_waited_for_only_so_long(server: Any) -> None:
    host, port = server.host.split(":")
    head = b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        began = time.monotonic()
        connection.sendall(head)
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not come within 0.5 s" in answer
    assert time.monotonic() - began < 10


def test_the_holder_of_the_key_dumps_no_core(server: Any) -> None:
    assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
