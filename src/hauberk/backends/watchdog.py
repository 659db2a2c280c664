"""Stopping runs that take too long.

ONNX Runtime looks at `RunOptions.terminate` between two operators. One thread a process, shared by all sessions, sets
that flag when a run's time is up. A run costs two attribute writes and a clock reading, because the thread is never
woken by a run: it sleeps until the earliest deadline that can exist, which is the shortest limit from when it last
looked, so that it wakes once a limit and still stops a run on time.
"""

from __future__ import annotations

import os
import threading
import time
from weakref import WeakSet

import onnxruntime


class Watch:
    """Watches one run at a time; a run that goes on beside it needs a watch of its own.

    Args:
        limit: Seconds that a run may take.
        run_options: What the run is started with.
    """

    def __init__(self, limit: float, run_options: onnxruntime.RunOptions) -> None:
        self.limit = limit
        self.run_options = run_options
        self._deadline: float | None = None
        self._expired = False
        self._lock = threading.Lock()
        _watchdog.add(self)

    def begin(self) -> None:
        """Start the clock; the run must be started right after."""
        self._deadline = time.monotonic() + self.limit

    def end(self) -> bool:
        """Stop the clock and say whether the time was up; the watch is ready for the next run."""
        # With the lock the thread cannot be between seeing the deadline and setting the flag, which would stop the
        # next run instead of this one.
        with self._lock:
            self._deadline = None
            expired = self._expired
            if expired:
                self._expired = self.run_options.terminate = False
        return expired

    def look(self, now: float) -> float:
        """Stop the run if its time is up. Returns the monotonic time at which to look again."""
        with self._lock:
            if self._deadline is None:
                return now + self.limit
            if now < self._deadline:
                return self._deadline
            self._deadline = None
            self._expired = self.run_options.terminate = True
            return now + self.limit

    def renew_lock(self) -> None:
        """Replace the lock, which a thread that a fork did not copy may have held."""
        self._lock = threading.Lock()


class _Watchdog:
    """The thread that looks at all watches; it ends with the last of them."""

    def __init__(self) -> None:
        self._watches: WeakSet[Watch] = WeakSet()
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._survives_fork = False

    def add(self, watch: Watch) -> None:
        """Watch from now on, for as long as someone holds `watch`."""
        with self._lock:
            self._watches.add(watch)
            if self._thread is None:
                self._start()
        self._changed.set()  # the thread may be sleeping for longer than the new limit

    def _start(self) -> None:
        if not self._survives_fork:
            os.register_at_fork(after_in_child=self._restart)
            self._survives_fork = True
        self._thread = threading.Thread(target=self._follow, name="hauberk-watchdog", daemon=True)
        self._thread.start()

    def _restart(self) -> None:
        # A fork copies only the thread that forks: without this, limits would silently stop to hold in the child.
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread = None
        for watch in self._watches:
            watch.renew_lock()
        if self._watches:
            self._start()

    def _follow(self) -> None:
        while True:
            self._changed.clear()
            wake = self._look()
            if wake is None:
                return
            self._changed.wait(max(0.0, wake - time.monotonic()))

    def _look(self) -> float | None:
        with self._lock:
            watches = tuple(self._watches)  # held: the last one may be dropped by its owner while this thread looks
            if not watches:
                self._thread = None
                return None
            now = time.monotonic()
            return min(watch.look(now) for watch in watches)


# One a process: a thread for each session would wake the machine as often as there are sessions.
_watchdog = _Watchdog()
