"""Who catches what: every scanner on the hostile corpus and on the honest files of tests/scan."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from scan_comparison.measure import TESTS
from scan_comparison.scanners import CATCHERS, Asked

_SECONDS = 60.0
"""For one case."""


class Caught(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the scanners say of one case.

    Attributes:
        area: Module of the corpus.
        name: Of the case.
        hostile: Or honest.
        reference: Where the trick was published; empty where nowhere.
        words: By scanner: `flagged`, `clean`, `undecided` or `died`.
    """

    area: str
    name: str
    hostile: bool
    reference: str
    words: dict[str, str]


def ask_all(environments: Path, *, only: str = "") -> list[Caught]:
    """Make every case in a folder of its own, and ask every scanner about it.

    Args:
        environments: Where environments lie.
        only: Areas whose name has this in it.
    """
    found: dict[tuple[str, str], Caught] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = list(_make(Path(folder), only))
        for scanner in CATCHERS:
            with Asked(scanner, environments) as asked:
                for area, case, hostile, path in made:
                    word = asked.scan([path], _SECONDS).words[0]
                    known = found.setdefault((area, case.name), Caught(area, case.name, hostile, case.reference, {}))
                    known.words[scanner.name] = word
            print(f"{scanner.name}: asked about {len(made)} cases", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
    return list(found.values())


def _make(folder: Path, only: str) -> Iterator[tuple[str, Any, bool, Path]]:
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    corpus = importlib.import_module("corpus")
    for areas, hostile in ((corpus.HOSTILE, True), (corpus.HONEST, False)):
        for area, case in corpus.cases(tuple(area for area in areas if only in area)):
            place = folder / area / case.name
            place.mkdir(parents=True)
            try:
                yield area, case, hostile, case.make(place)
            except ImportError as error:
                print(f"{area}: {case.name} needs {error.name}, which is not installed", file=sys.stderr)
