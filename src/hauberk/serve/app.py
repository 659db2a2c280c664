"""The HTTP side: which path is what, how large a request may be, and how every outcome is answered.

An RSGI application (https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md). Request bodies are
handed on unread; nothing here parses them. What a client is told about a failure names no file, node or process; the
operator finds those in the log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # its stub does not say that it exports it

import hauberk
from hauberk.errors import LimitError
from hauberk.sandbox.process import TimeLimitError, WorkerLostError, resident_memory
from hauberk.serve import metrics
from hauberk.serve.envelope import pack_question, unpack_answer
from hauberk.serve.metrics import ModelMetrics, Outcome, WorkerFigures
from hauberk.serve.pool import OverloadedError, WorkerPool
from hauberk.serve.protocol import ModelMetadata

_DRAINED = 4
"""A body this many times too long is still received, because a client that is cut off never reads the refusal."""

_HEADER_LENGTH = "inference-header-content-length"
_CLOSE = ("connection", "close")
_logger = logging.getLogger(__name__)


class _Headers(Protocol):
    def get(self, key: str) -> str | None: ...


class Scope(Protocol):
    """What RSGI says about a request."""

    method: str
    path: str

    @property
    def headers(self) -> _Headers:
        """Names are lower case."""


class Connection(Protocol):
    """What RSGI gives to read a request and to answer it."""

    async def __call__(self) -> bytes:
        """The whole body."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer."""


class _Reply(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class _RefusedError(Exception):
    """A request is answered with an error."""

    def __init__(self, status: int, message: str, outcome: Outcome, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.reply = _Reply(status, _json({"error": message}), headers=headers)


@dataclass(frozen=True)
class Endpoint:
    """A model that is served.

    Attributes:
        metadata: What clients are told about it.
        pool: Who answers.
        metrics: Who counts.
    """

    metadata: ModelMetadata
    pool: WorkerPool
    metrics: ModelMetrics = field(default_factory=ModelMetrics)


class App:
    """Routes, reads, asks a worker, answers.

    Args:
        endpoints: One a model.
        most_bytes: The longest request body.
        body_limit: Seconds in which a whole request body must have come.
    """

    def __init__(self, endpoints: tuple[Endpoint, ...], *, most_bytes: int, body_limit: float) -> None:
        self._endpoints = endpoints
        self._body_limit = body_limit
        self._most_bytes = most_bytes
        self._gets: dict[str, Callable[[], _Reply]] = {
            "/v2": self._server,
            "/v2/health/live": lambda: _Reply(200, _json({"live": True})),
            "/v2/health/ready": self._ready,
            "/metrics": self._metrics,
        }
        self._posts: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            self._add(endpoint)

    async def __rsgi__(self, scope: Scope, connection: Connection) -> None:
        """Answer one request."""
        try:
            reply = await self._reply(scope, connection)
        except _RefusedError as error:
            reply = error.reply
        except Exception:
            _logger.exception("%s %s: internal error", scope.method, scope.path)
            reply = _Reply(500, _json({"error": "internal error"}))
        headers = [("server", "hauberk"), ("content-type", reply.content_type), *reply.headers]
        connection.response_bytes(reply.status, headers, reply.body)

    def _add(self, endpoint: Endpoint) -> None:
        metadata = endpoint.metadata
        plain = f"/v2/models/{metadata.name}"
        for path in (plain, f"{plain}/versions/{metadata.versions[0]}"):
            self._gets[path] = lambda: _Reply(200, _json(metadata))
            self._gets[f"{path}/ready"] = lambda: _readiness({"name": metadata.name}, ready=endpoint.pool.ready)
            self._posts[f"{path}/infer"] = endpoint

    async def _reply(self, scope: Scope, connection: Connection) -> _Reply:
        path = scope.path
        endpoint = self._posts.get(path)
        if endpoint is not None:
            return await self._counted(endpoint, scope, connection)
        answer = self._gets.get(path.rstrip("/"))
        if answer is None:
            what = "model, version or resource" if path.startswith("/v2/models/") else "resource"
            raise _RefusedError(404, f"there is no such {what}", Outcome.INVALID)
        _require_method(scope, "GET")
        return answer()

    async def _counted(self, endpoint: Endpoint, scope: Scope, connection: Connection) -> _Reply:
        began = time.perf_counter()
        endpoint.metrics.in_flight += 1
        outcome = Outcome.FAILED
        try:
            reply = await self._infer(endpoint, scope, connection)
            outcome = {200: Outcome.ANSWERED, 400: Outcome.INVALID}.get(reply.status, Outcome.FAILED)
        except _RefusedError as error:
            outcome, reply = error.outcome, error.reply
        finally:
            endpoint.metrics.in_flight -= 1
            endpoint.metrics.count(outcome, time.perf_counter() - began)
        return reply

    async def _infer(self, endpoint: Endpoint, scope: Scope, connection: Connection) -> _Reply:
        _require_method(scope, "POST")
        header_length = _header_length(scope.headers.get(_HEADER_LENGTH))
        body = await self._body(scope, connection)
        try:
            answer = unpack_answer(await endpoint.pool.ask(pack_question(body, header_length)))
        except OverloadedError as error:
            raise _RefusedError(503, str(error), Outcome.OVERLOADED, ("retry-after", "1")) from None
        except TimeLimitError as error:
            raise _RefusedError(504, str(error), Outcome.LIMIT) from None
        except LimitError:
            raise _RefusedError(503, "the request needs more memory than a worker may have", Outcome.LIMIT) from None
        except WorkerLostError:
            raise _RefusedError(503, "the worker died on this request and is being replaced", Outcome.FAILED) from None
        if answer.header_length is None:
            return _Reply(answer.status, answer.body)
        length = (_HEADER_LENGTH, str(answer.header_length))
        return _Reply(answer.status, answer.body, "application/octet-stream", (length,))

    async def _body(self, scope: Scope, connection: Connection) -> bytes:
        if scope.headers.get("content-encoding") not in {None, "identity"}:
            raise _RefusedError(415, "compressed requests are not accepted; send the body as it is", Outcome.INVALID)
        declared = scope.headers.get("content-length")
        try:
            async with asyncio.timeout(self._body_limit):
                # The HTTP layer holds a client to the length that it declares.
                if declared is not None and int(declared) <= self._most_bytes:
                    return await connection()
                return await self._body_of_unknown_length(connection)
        except TimeoutError:
            message = f"the body did not come within {self._body_limit:g} s"
            raise _RefusedError(408, message, Outcome.INVALID, _CLOSE) from None
        except ProtocolClosed:
            raise _RefusedError(400, "the body ended before its time", Outcome.INVALID, _CLOSE) from None

    async def _body_of_unknown_length(self, connection: Connection) -> bytes:
        pieces: list[bytes] = []
        length = 0
        async for piece in connection:
            length += len(piece)
            if length > _DRAINED * self._most_bytes:
                break
            if length > self._most_bytes:
                pieces.clear()
            else:
                pieces.append(piece)
        if length > self._most_bytes:
            message = f"the body is longer than {self._most_bytes} bytes; send fewer records at a time"
            raise _RefusedError(413, message, Outcome.INVALID, _CLOSE)
        return b"".join(pieces)

    @staticmethod
    def _server() -> _Reply:
        about = {"name": "hauberk", "version": hauberk.__version__, "extensions": ["binary_tensor_data"]}
        return _Reply(200, _json(about))

    def _ready(self) -> _Reply:
        return _readiness({}, ready=all(endpoint.pool.ready for endpoint in self._endpoints))

    def _metrics(self) -> _Reply:
        models = {
            endpoint.metadata.name: (
                endpoint.metrics,
                WorkerFigures(endpoint.pool.memory(), endpoint.pool.waiting),
            )
            for endpoint in self._endpoints
        }
        text = metrics.render(models, resident_memory(os.getpid()))
        return _Reply(200, text.encode(), metrics.CONTENT_TYPE)


def _require_method(scope: Scope, method: str) -> None:
    if scope.method != method:
        raise _RefusedError(405, f"use {method} here", Outcome.INVALID, ("allow", method))


def _header_length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _RefusedError(400, "Inference-Header-Content-Length is not a number of bytes", Outcome.INVALID)
    return int(text)


def _readiness(about: Mapping[str, object], *, ready: bool) -> _Reply:
    return _Reply(200 if ready else 503, _json({**about, "ready": ready}))


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
