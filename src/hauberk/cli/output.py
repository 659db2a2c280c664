"""What commands print: text or one JSON document on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import msgspec

from hauberk.progress import SILENT, Progress, Task

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Output:
    """Where a command's words go.

    Args:
        json: One JSON document is wanted; then `text` prints nothing and `document` prints.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def text(self, line: str = "") -> None:
        """Print a line for people; nothing in JSON mode."""
        if not self.json:
            _write_line(sys.stdout, line)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print left-aligned columns for people, wide enough for their longest cell; nothing in JSON mode."""
        lines = [list(header), *(list(row) for row in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        for line in lines:
            self.text("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def document(self, value: object) -> None:
        """Print the command's one JSON document (structs and plain data); nothing for people."""
        if self.json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")

    def note(self, line: str) -> None:
        """Print a line on standard error."""
        _write_line(sys.stderr, line)

    def error(self, message: str) -> None:
        """Print an error on standard error, as one line."""
        self.note(f"hauberk: {' '.join(message.split())}")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars on standard error while the block runs; silent where that is no terminal."""
        if not sys.stderr.isatty():
            yield SILENT
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        # Where only errors go to the terminal, what is printed must not be drawn into there.
        drawn_in = sys.stdout.isatty()
        with Bars(*columns, console=Console(stderr=True), transient=True, redirect_stdout=drawn_in) as bars:
            yield _RichProgress(bars)


def _harmless(text: str) -> str:
    """Text in which nothing drives the terminal: names in it may come from a file that was just refused."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def _write_line(stream: TextIO, line: str) -> None:
    """Write a line; what the terminal's encoding lacks (µ, say) is escaped and not an error."""
    encoding = stream.encoding or "utf-8"
    stream.write(_harmless(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


class _RichProgress:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Task]:
        """Show one bar."""
        identifier = self._bars.add_task(description, total=total, figures="")
        try:
            yield _RichTask(self._bars, identifier)
        finally:
            self._bars.remove_task(identifier)


class _RichTask:
    def __init__(self, bars: Bars, identifier: TaskID) -> None:
        self._bars = bars
        self._identifier = identifier

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Move the bar and show the newest figures."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._bars.update(self._identifier, advance=steps, figures=shown)
