"""How long work reports that it is alive, without knowing who listens.

Library code takes a `Progress` and never prints. The command line hands in one that draws a bar on standard error;
everyone else gets `SILENT`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of long work under way."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Say that `steps` more are done; `figures` (loss=0.31, …) are shown beside the bar."""


class Progress(Protocol):
    """Something that can follow tasks."""

    def task(self, description: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Begin a task of `total` steps (`None`: unknown); it ends with the `with` block."""


class _SilentTask:
    def advance(self, steps: int = 1, **figures: float) -> None:
        """Do nothing."""


class _Silent:
    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Task]:  # noqa: ARG002
        """Follow nothing."""
        yield _SilentTask()


SILENT: Progress = _Silent()
"""The progress of a caller who did not ask for any."""
