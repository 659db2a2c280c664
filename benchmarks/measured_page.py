"""Pages of docs/benchmarks: what stands between two markers is what a benchmark measured last."""

from __future__ import annotations

from pathlib import Path

from hauberk.files import write_atomically

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


def fill(page: Path, measured: str) -> None:
    """Replace what stands between the markers of a page.

    Args:
        page: Has both markers.
        measured: Markdown.
    """
    head, _, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    write_atomically(page, f"{head}{_BEGIN}\n\n{measured}\n\n{_END}{tail}".encode())
