"""The listening process: start the workers, listen, and stop in good order.

Granian runs inside this process's own event loop (`granian.server.embed`), so that the loop that answers also owns the
workers and the signals. Its other form, a supervisor that starts processes which import the application, would put the
keys and the workers' handles one process further away, and could not say which port it was given.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from hauberk.errors import HauberkError, InputError
from hauberk.sandbox.landlock import runtime_paths
from hauberk.sandbox.limits import MEBIBYTE, Limits, conceal, offered, self_test
from hauberk.sandbox.worker import Worker
from hauberk.serve.app import App, Endpoint
from hauberk.serve.envelope import Greeting, make_setup
from hauberk.serve.metrics import ModelMetrics
from hauberk.serve.options import ServeOptions
from hauberk.serve.pool import WorkerPool
from hauberk.trust import EncryptionKey, Passphrase, TrustPolicy, default_encryption_key, default_policy

_TARGET = "hauberk.serve.model:open_model"
_FILES = 64
"""Descriptors of a worker; interpreter, libraries and one bundle take about 10."""

_ANSWER_BYTES_A_RECORD = 128
_HEADER_MILLISECONDS = 10_000
_HEADER_BYTES = 64 << 10
_MOST_AT_ONCE = 1024
_GRACE = 2.0
"""Seconds for the last words after every worker was ended."""

_logger = logging.getLogger(__name__)


class Listening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server that answers.

    Attributes:
        address: As in `http://127.0.0.1:8080`.
        models: Names under which the bundles are served.
    """

    address: str
    models: tuple[str, ...]


def serve(
    bundles: Sequence[Path],
    *,
    key: EncryptionKey | Passphrase | None = None,
    trust: TrustPolicy | None = None,
    options: ServeOptions | None = None,
    on_listening: Callable[[Listening], None] = lambda _: None,
) -> None:
    """Serve bundles until SIGTERM or SIGINT; a second signal cuts requests under way short.

    Call it from the main thread. It makes this process unreadable for debuggers and core dumps, because it holds the
    key that replacement workers need.

    Args:
        bundles: The files, one a model.
        key: What they are encrypted with; by default the key in the user's configuration folder.
        trust: Whose signature counts; by default that of the key in the user's configuration folder.
        options: Where to listen, and what a model may take.
        on_listening: Called once requests are answered.

    Raises:
        InputError: A bundle is refused, two have the same name, or the port is taken.
        LimitError: A model does not get ready within its limits.
    """
    options = ServeOptions() if options is None else options
    if not bundles:
        raise InputError("serve needs at least one bundle")
    conceal()
    key = default_encryption_key() if key is None else key
    trust = default_policy() if trust is None else trust
    asyncio.run(_serve(bundles, key, trust, options, on_listening))


async def _serve(
    bundles: Sequence[Path],
    key: EncryptionKey | Passphrase,
    trust: TrustPolicy,
    options: ServeOptions,
    on_listening: Callable[[Listening], None],
) -> None:
    stop, hurry = _watch_signals()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        address, port = _claim_port(stack, options.host, options.port)
        starting = loop.create_task(_start_workers(stack, bundles, key, trust, options))
        await _first_of(starting, stop.wait())
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return
        endpoints = starting.result()
        app = App(tuple(endpoints), most_bytes=options.most_bytes, body_limit=options.body_limit)
        server = _make_server(app, address, port)
        serving = loop.create_task(server.serve())
        await _until_listening(serving, address, port)
        shown = f"[{address}]" if ":" in address else address
        on_listening(Listening(f"http://{shown}:{port}", tuple(endpoint.metadata.name for endpoint in endpoints)))
        await _first_of(serving, stop.wait())
        if not stop.is_set():
            raise HauberkError("the HTTP server ended without having been told to")
        server.stop()  # type: ignore[no-untyped-call]
        await _first_of(serving, hurry.wait(), timeout=options.stop_limit)
    # By now every worker is gone, and requests that were still under way are being told so.
    await asyncio.wait({serving}, timeout=_GRACE)
    serving.cancel()


async def _start_workers(
    stack: AsyncExitStack,
    bundles: Sequence[Path],
    key: EncryptionKey | Passphrase,
    trust: TrustPolicy,
    options: ServeOptions,
) -> list[Endpoint]:
    wanted = Limits(
        memory=options.memory_limit,
        files=_FILES,
        file_size=0,
        read_only=runtime_paths(),
        network=False,
        system_calls="compute",
    )
    limits, missing = offered(wanted)
    for what in missing:
        _logger.warning("this system cannot refuse workers %s", what)
    for check in await asyncio.to_thread(self_test, limits):
        if not check.holds:
            _logger.warning("this system does not keep workers to the limit %s: %s", check.name, check.detail)
    endpoints: list[Endpoint] = []
    for bundle in bundles:
        endpoint = await _open(stack, bundle, key, trust, options, limits)
        name = endpoint.metadata.name
        if any(name == other.metadata.name for other in endpoints):
            raise InputError(
                f"{bundle}: a model of the name {name!r} is served already; serve this one from another port"
            )
        endpoints.append(endpoint)
    return endpoints


async def _open(
    stack: AsyncExitStack,
    bundle: Path,
    key: EncryptionKey | Passphrase,
    trust: TrustPolicy,
    options: ServeOptions,
    limits: Limits,
) -> Endpoint:
    """Start the workers of one bundle, and arrange that they end with `stack`."""
    try:
        # Held open for replacement workers. Without O_NONBLOCK, opening a pipe would wait for ever.
        descriptor = os.open(bundle, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{bundle}: cannot read: {(error.strerror or str(error)).lower()}") from error
    stack.callback(os.close, descriptor)
    if limits.read_only is not None:  # the bundle is opened by the path of its descriptor
        limits = msgspec.structs.replace(limits, read_only=(*limits.read_only, f"/proc/self/fd/{descriptor}"))
    setup = make_setup(descriptor, str(bundle), key, trust, threads=options.threads, most_records=options.most_records)

    async def launch() -> Worker:
        return await Worker.start(
            _TARGET,
            msgspec.msgpack.encode(setup),
            limits=limits,
            time_limit=options.start_limit,
            longest_answer=MEBIBYTE + _ANSWER_BYTES_A_RECORD * options.most_records,
            descriptors=[descriptor],
        )

    metrics = ModelMetrics()
    pool = WorkerPool(
        str(bundle),
        launch,
        size=options.workers,
        queue=options.queue,
        time_limit=options.time_limit,
        wait_limit=options.wait_limit,
        on_restart=metrics.count_restart,
    )
    try:
        await pool.start()
    except HauberkError as error:
        shown = str(error) if str(error).startswith(str(bundle)) else f"{bundle}: {error}"
        raise type(error)(shown) from error
    stack.push_async_callback(pool.stop)
    return Endpoint(msgspec.json.decode(pool.greeting, type=Greeting).metadata, pool, metrics)


def _make_server(app: App, address: str, port: int) -> Server:
    return Server(
        app,
        address=address,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_MILLISECONDS, max_buffer_size=_HEADER_BYTES),
        websockets=False,
        backlog=_MOST_AT_ONCE,
        backpressure=_MOST_AT_ONCE,
        log_enabled=False,
    )


def _claim_port(stack: AsyncExitStack, host: str, port: int) -> tuple[str, int]:
    """Find the address, and a port that nobody listens on; keep it until the stack unwinds.

    Granian binds with SO_REUSEPORT, so that a second server on the same port would silently take half of the requests.
    A first, exclusive bind finds that out; a second, shared one keeps the port for Granian.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as exclusive:
            exclusive.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            exclusive.bind(where)
            where = exclusive.getsockname()
        shared = stack.enter_context(socket.socket(family, kind, protocol))
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(where)
    except OSError as error:
        raise InputError(f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}") from error
    return str(where[0]), int(where[1])


async def _until_listening(serving: asyncio.Task[None], address: str, port: int) -> None:
    """Wait until a connection is accepted."""
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return
    raise InputError(f"cannot listen on {address} port {port}") from serving.exception()


def _watch_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events that are set by the first and by the second SIGTERM or SIGINT."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def take() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, take)
    return stop, hurry


async def _first_of(task: asyncio.Task[Any], other: Coroutine[Any, Any, object], timeout: float | None = None) -> None:
    """Wait until one of two is done, or the time is over; the second is given up."""
    rival = asyncio.get_running_loop().create_task(other)
    try:
        await asyncio.wait({task, rival}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        rival.cancel()
