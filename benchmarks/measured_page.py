"""Pages of docs/benchmarks: what stands between two markers is what a benchmark measured last, and on which commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hauberk.errors import InputError
from hauberk.files import write_atomically


def fill(page: Path, measured: str, part: str = "measured") -> None:
    """Replace what stands between the markers of a page.

    Args:
        page: Has both markers, `<!-- measured: begin -->` and `<!-- measured: end -->`.
        measured: Markdown.
        part: The word in the markers; a page may have several parts.

    Raises:
        InputError: The page has not both markers, each once.
    """
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise InputError(f"{page}: the measured part belongs between {begin} and {end}, each of which must stand once")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    write_atomically(page, f"{head}{begin}\n\n{measured}\n\n{end}{tail}".encode())


def checked_out() -> str:
    """The commit that is measured, with `-dirty` where files differ; outside a checkout what `HAUBERK_COMMIT` says."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or os.environ.get("HAUBERK_COMMIT", "no commit")
