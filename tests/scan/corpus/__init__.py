"""Files for the scan to judge, made by code: hostile ones, and honest ones that must not be accused.

`pytest` has `tests/scan` on its path (pyproject.toml), so tests say `from corpus import Case` and
`from corpus.pickles import CASES`; benchmarks and fuzzers put that folder on their path themselves. Nothing here is
malware: a payload sets a flag file that it is given, or names a callable that nobody ever runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

HOSTILE = ("pickles", "archives", "graphs", "frameworks")
HONEST = ("honest_pickles", "honest_torch", "honest_graphs", "honest_frameworks")

UNSAFE = frozenset({"unsafe"})
NEVER_SAFE = frozenset({"unsafe", "unknown"})
UNKNOWN = frozenset({"unknown"})
SAFE = frozenset({"safe"})


@dataclass(frozen=True)
class Case:
    """One file, or a folder of files.

    Attributes:
        name: Unique in its area, in lower case with hyphens.
        make: Writes it into a folder, always the same bytes, and returns what to scan.
        expected: The verdicts that are right. Of a hostile case `safe` never is.
        reference: Advisory, paper or specification (a URL, or a CVE or GHSA number); empty where there is none.
    """

    name: str
    make: Callable[[Path], Path]
    expected: frozenset[str]
    reference: str = ""


def cases(areas: tuple[str, ...]) -> Iterator[tuple[str, Case]]:
    """Every case of these areas, with the area's name."""
    for area in areas:
        for case in import_module(f"corpus.{area}").CASES:
            yield area, case
