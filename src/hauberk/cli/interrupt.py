"""Ctrl-C that is not lost on its way through other people's code.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. Where that is inside `__set_name__`, Python
3.11 makes a `RuntimeError` of it, and libraries that take a failed import for an absent one catch that; elsewhere it is
raised in a finaliser or in a callback of native code, where Python prints it at most. The work goes on as if nobody
had asked. So the interrupt is given again until it arrives.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PAUSE = 1.0
"""Seconds until an interrupt is given again."""


@contextmanager
def persistent_interrupt(pause: float = _PAUSE) -> Iterator[None]:
    """Within the block, an interrupt that somebody swallowed is raised again.

    While it is being handled (a `finally`, an `except`, an `__exit__` on its way) it is left alone, so that cleaning up
    takes as long as it takes; a second one from the user is raised at once, as ever. Nothing changes where another
    handler than Python's own is set, or outside the main thread.

    Args:
        pause: Seconds until it is given again.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    handler = _Handler(pause)
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        handler.stop()
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Handler:
    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._given: KeyboardInterrupt | None = None
        self._timer: threading.Timer | None = None
        self._again = self._over = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        again, self._again = self._again, False
        if self._over and again:
            return
        if not self._over and (again or self._timer is None):
            self._timer = self._started()
        if again and self._is_being_handled():
            return
        self._given = KeyboardInterrupt()
        raise self._given

    def _started(self) -> threading.Timer | None:
        timer = threading.Timer(self._pause, self._give_again)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread is to be had; then it is given once, as Python does
            return None
        return timer

    def stop(self) -> None:
        """Give nothing again. Whatever is on its way when this returns has been taken."""
        self._over = True
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def _give_again(self) -> None:
        with self._lock:
            if not self._over:
                self._again = True
                signal.pthread_kill(self._thread, signal.SIGINT)

    def _is_being_handled(self) -> bool:
        """Whether the one that was given is handled further down the stack, also as the cause of another exception."""
        waiting: list[BaseException | None] = [sys.exc_info()[1]]
        seen: set[int] = set()
        while waiting:
            error = waiting.pop()
            if error is None or id(error) in seen:
                continue
            if error is self._given:
                return True
            seen.add(id(error))
            waiting += [error.__context__, error.__cause__]
        return False
