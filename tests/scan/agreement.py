"""What the scan says of a pickle, against what the real unpicklers did with it."""

from __future__ import annotations

from collections.abc import Iterator

from pickle_programs import HOSTILE
from real_unpickler import Run

from hauberk.scan.content import BytesContent
from hauberk.scan.examination import FAILED, Examination
from hauberk.scan.pickles import PickleResult, examine_pickle
from hauberk.scan.report import Verdict

_BROKEN_FRAME, _GAVE_UP = "pickle-frame-crossed", "pickle-too-complex"
REFUSED = frozenset(".".join(name) for name in HOSTILE)


Reading = tuple[PickleResult, Examination]


def scan(data: bytes) -> Reading:
    """The scan's own reading."""
    examination = Examination(name="pickle")
    return examine_pickle(BytesContent(data), examination), examination


def disagreements(
    data: bytes, runs: dict[str, Run], *, encoding: str = "ASCII", reading: Reading | None = None
) -> Iterator[str]:
    """Everything in which the scan would have misled somebody who loads the pickle; nothing where it agrees.

    Args:
        data: The pickle.
        runs: What the real unpicklers did, by name.
        encoding: With which they read byte strings.
        reading: The scan's own reading, where it is known.
    """
    ours, examination = reading or scan(data)
    verdict = examination.verdict
    rules = {finding.rule for finding in examination.findings}
    if FAILED.id in rules:
        yield "the scan failed"
    for name, run in runs.items():
        if run.of("audit"):
            yield f"{name} did {run.of('audit')}: the recorder leaks, nothing is proved"
        if verdict is Verdict.UNSAFE and _BROKEN_FRAME in rules:
            continue  # from there on readers see different instructions, and the scan follows one of them
        if verdict is Verdict.SAFE or _GAVE_UP not in rules:  # there it says that it does not know what comes later
            yield from _about_names(name, run, ours)
        asked = {".".join(pair) for pair in run.names}
        if (refused := asked & REFUSED or run.of("extension")) and verdict is not Verdict.UNSAFE:
            yield f"{name} did {refused}, and the scan says {verdict}"
        if verdict is Verdict.SAFE:
            yield from _about_safe(name, run, ours, encoding)


def _about_safe(name: str, run: Run, ours: PickleResult, encoding: str) -> Iterator[str]:
    if run.of("persistent"):
        yield f"{name} asked for something outside, and the scan says safe"
    if run.finished and run.consumed != ours.end:
        yield f"{name} read {run.consumed} bytes, the scan {ours.end}"
    if not run.finished and not _by_encoding(run, encoding):
        yield f"{name} broke with {run.error}, and the scan says safe"


def _about_names(name: str, run: Run, ours: PickleResult) -> Iterator[str]:
    # Byte strings beyond ASCII are read as each loader likes; as names they are refused in every reading.
    asked = [joined for pair in run.names if (joined := ".".join(pair)).isascii()]
    if missed := [each for each in asked if each not in ours.names]:
        yield f"{name} asked for {missed}, which the scan did not see among {ours.names}"
    elif (order := [each for each in ours.names if each in asked]) != asked:
        yield f"{name} asked in the order {asked}, the scan saw {order}"


def _by_encoding(run: Run, encoding: str) -> bool:
    """Whether a loader that reads the byte strings of Python 2 as Latin-1 may have come further."""
    return encoding == "bytes" or (encoding == "ASCII" and run.error == "UnicodeDecodeError")
