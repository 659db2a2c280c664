"""What a server is told when it is started."""

from __future__ import annotations

import math

import msgspec

from hauberk.errors import InputError
from hauberk.sandbox.limits import GIBIBYTE, MEBIBYTE


class ServeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where to listen, and what a model may take.

    Attributes:
        host: Address or name to listen on; nothing but this machine reaches the default.
        port: TCP port; 0 takes a free one.
        workers: Processes a model. With two, one answers while the other is being replaced.
        threads: Threads of one worker for one request.
        memory_limit: Private memory of one worker in bytes, interpreter and libraries (about 80 MB) included.
        time_limit: Seconds that one request may take a worker.
        wait_limit: Seconds that it may wait for one, because all are busy or because some are being started anew.
        start_limit: Seconds until a worker must have opened its bundle and answered a first, made-up record.
        body_limit: Seconds in which a whole request body must have come.
        most_records: Records in one request.
        most_bytes: Bytes in one request body.
        queue: Requests a model that wait for a worker; further ones are turned away at once.
        stop_limit: Seconds that requests under way get when the server is told to stop.

    Raises:
        InputError: A value is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 2
    threads: int = 1
    memory_limit: int = GIBIBYTE
    time_limit: float = 10.0
    wait_limit: float = 10.0
    start_limit: float = 60.0
    body_limit: float = 30.0
    most_records: int = 4096
    most_bytes: int = 16 * MEBIBYTE
    queue: int = 256
    stop_limit: float = 15.0

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "port": (0, 65535),
            "workers": (1, 256),
            "threads": (1, 256),
            "memory_limit": (128 * MEBIBYTE, 1 << 50),
            "time_limit": (0.01, 3600),
            "wait_limit": (0.01, 3600),
            "start_limit": (0.1, 3600),
            "body_limit": (0.01, 3600),
            "most_records": (1, 1 << 24),
            "most_bytes": (1024, 1 << 30),
            "queue": (0, 1 << 20),
            "stop_limit": (0, 3600),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise InputError(f"serve option {name} is {value}; give {least} to {most}")
