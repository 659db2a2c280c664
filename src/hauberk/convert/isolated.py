"""A source framework in a process of its own, under limits, as something that can be asked.

Readers of other frameworks are large native libraries that were never meant for files of an adversary. Each runs in a
worker (`hauberk.sandbox`): bounded memory and processor time, no file written, nothing readable but the interpreter and
its packages, no network, no other process. What the kernel lacks of it is told. What comes back is looked at like any
other bytes from outside.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.convert.messages import Answer, Greeting, Setup, outputs, question
from hauberk.errors import HauberkError, InputError, LimitError, MissingExtraError
from hauberk.sandbox.landlock import runtime_paths
from hauberk.sandbox.limits import GIBIBYTE, Limits, offered
from hauberk.sandbox.worker import Worker

T = TypeVar("T")

_TARGET = "hauberk.convert.inside:begin"
_MEMORY = 8 * GIBIBYTE
_CPU_SECONDS = 1800
_START_SECONDS = 180.0
_CONVERT_SECONDS = 900.0
_ANSWER_SECONDS = 300.0
_LONGEST_ANSWER = 1 << 31


def require(package: str, extra: str, what: str) -> None:
    """See that a framework is installed, without importing it.

    Raises:
        MissingExtraError: It is not; the message names the extra.
    """
    if find_spec(package) is None:
        raise MissingExtraError(f"{what} needs {package}, which is not installed: pip install 'hauberk[{extra}]'")


class Isolated:
    """A model in its own framework, in a process of its own. Use it as a context manager.

    Args:
        setup: The framework and the model.
        where: How messages call the file.
        readable: Files and folders that it may read besides the interpreter's own.

    Raises:
        InputError: The framework does not read the file.
        LimitError: Reading it takes more than the limits allow.
        WorkerLostError: The process died over it.

    Attributes:
        greeting: What the framework says of itself and of the model.
        gaps: What this kernel could not keep the process from, a phrase each.
    """

    def __init__(self, setup: Setup, where: str, readable: tuple[str, ...] = ()) -> None:
        self._where = where
        limits, missing = offered(
            Limits(
                memory=_MEMORY,
                cpu_seconds=_CPU_SECONDS,
                files=1024,
                file_size=0,
                read_only=(*runtime_paths(), *readable),
                network=False,
                system_calls="compute",
            )
        )
        self.gaps = missing
        self._loop = asyncio.new_event_loop()
        # The kernel ends the worker with the thread that started it, so that thread lives as long as this object.
        self._thread = threading.Thread(target=self._loop.run_forever, name="hauberk-convert", daemon=True)
        self._thread.start()
        try:
            self._worker = self._await(
                Worker.start(
                    _TARGET,
                    msgspec.msgpack.encode(setup),
                    limits=limits,
                    time_limit=_START_SECONDS,
                    longest_answer=_LONGEST_ANSWER,
                )
            )
        except BaseException:
            self._end_thread()
            raise
        try:
            self.greeting = self._decoded(self._worker.greeting, Greeting)
        except BaseException:
            self.close()
            raise

    def convert(self) -> Answer:
        """The model as a graph, not admitted yet.

        Raises:
            InputError: The framework's converter does not know the model.
            LimitError: It takes more than the limits allow.
        """
        return self._ask(question(None), _CONVERT_SECONDS)

    def answer(self, feeds: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """What the model answers in its own framework.

        Raises:
            InputError: It does not take these inputs.
            LimitError: It takes more than the limits allow.
        """
        return outputs(self._ask(question(feeds), _ANSWER_SECONDS).outputs)

    def close(self) -> None:
        """End the process."""
        self._await(self._worker.close())
        self._end_thread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, asked: bytes, seconds: float) -> Answer:
        return self._decoded(self._await(self._worker.ask(asked, time_limit=seconds)), Answer)

    def _decoded(self, answer: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(answer, type=kind)
        except msgspec.MsgspecError as error:
            raise InputError(
                f"{self._where}: the isolated process answered something else than it was asked"
            ) from error

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except LimitError as error:
            raise LimitError(f"{self._where}: in its isolated process: {error}") from error
        except HauberkError as error:
            raise type(error)(f"{self._where}: {error}") from error

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
