"""One scan under watch: what it says, where it failed inside, how long it took, what memory it needed.

Time is processor time, also for the scan's own deadlines: other work on the machine changes neither what a scan says
nor what is said of it.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hauberk.scan.content import BytesContent
from hauberk.scan.examination import FAILED, Examination, ScanLimits
from hauberk.scan.report import FileReport, Rule
from hauberk.scan.walk import scan_content

LIMITS = ScanLimits(seconds=2.0, unpacked=1 << 26)
"""What a file of some kilobytes gets: 2 s and 64 MiB unpacked."""


class HangError(BaseException):
    """The scan went on long behind its deadline; no `Exception`, so that no scanner catches it."""


@dataclass(frozen=True)
class Observation:
    """What was seen of one scan.

    Attributes:
        report: What it says.
        faults: Tracebacks of exceptions that scanners should not have raised.
        seconds: Processor time of this process.
    """

    report: FileReport
    faults: tuple[str, ...]
    seconds: float

    @property
    def fault(self) -> str:
        """Where it failed, in one line that tells faults apart; empty where it did not."""
        if not self.faults:
            return ""
        lines = self.faults[0].strip().splitlines()
        places = [line.strip() for line in lines if line.lstrip().startswith("File ")]
        return f"{lines[-1][:100]} | {' <- '.join(place.rpartition('/')[2] for place in reversed(places[-2:]))}"


@contextmanager
def watching() -> Iterator[list[str]]:
    """Collects the tracebacks of faults that scans turn into findings."""
    faults: list[str] = []
    find = Examination.find

    def noting(self: Examination, rule: Rule, what: str, **place: Any) -> None:
        if rule.id == FAILED.id:
            faults.append(traceback.format_exc(limit=-6))
        find(self, rule, what, **place)

    Examination.find = noting  # type: ignore[method-assign]
    try:
        yield faults
    finally:
        Examination.find = find  # type: ignore[method-assign]


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raise `HangError` in what needs more processor time; main thread only."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise HangError(f"not done after {seconds:g} s of processor time")

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _deadlines_of_processor_time() -> Iterator[None]:
    clock, time.monotonic = time.monotonic, time.process_time
    try:
        yield
    finally:
        time.monotonic = clock


def observe(data: bytes, faults: list[str], limits: ScanLimits = LIMITS) -> Observation:
    """Scan bytes as if they were a file.

    Args:
        data: The file.
        faults: What `watching` collects.
        limits: How far the scan goes.

    Raises:
        HangError: It takes three times its deadline of processor time.
    """
    known = len(faults)
    started = time.process_time()
    with ended_after(3 * limits.seconds), _deadlines_of_processor_time():
        report = scan_content(BytesContent(data), path=Path("observed"), limits=limits)
    return Observation(report, tuple(faults[known:]), time.process_time() - started)


def peak_memory(work: Callable[[], object]) -> int:
    """Bytes by which the resident memory of this process rose at its highest while `work` ran."""
    status = Path("/proc/self/status")

    def kilobytes(name: str) -> int:
        return int(status.read_text().partition(f"{name}:")[2].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = kilobytes("VmRSS")
    work()
    return (kilobytes("VmHWM") - before) * 1024
