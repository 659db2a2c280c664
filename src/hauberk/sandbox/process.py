"""What those who start processes share: the environment that one is given, its memory, and why one has ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hauberk.errors import HauberkError, LimitError

_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
"""What a worker inherits of the environment; anything else, a key in a variable say, is none of its business."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Libraries that would start a thread a core, each with its own buffers, just by being imported."""


class WorkerLostError(HauberkError):
    """A worker process ended without having been asked to."""


class NotStartedError(WorkerLostError):
    """A worker process could not be started, whatever it is asked."""


class TimeLimitError(LimitError):
    """A worker did not answer in time and was killed."""


def resident_memory(pid: int) -> int:
    """Resident memory of a process in bytes; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def environment() -> dict[str, str]:
    """The variables of a process that is started here."""
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _ONE_THREAD


def explain(code: int | None) -> HauberkError:
    """Why a process ended that nobody here killed."""
    if code is not None and code < 0:
        if -code == signal.SIGXCPU:
            return LimitError("the worker used up its processor time")
        name = signal.Signals(-code).name
        hint = ", as a process does that gets no memory" if -code == signal.SIGABRT else ""
        return WorkerLostError(f"the worker process was ended by {name}{hint}")
    return WorkerLostError(f"the worker process ended with exit code {code}")
