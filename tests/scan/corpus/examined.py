"""Bytes as the scan sees them, for tests of single rules."""

from __future__ import annotations

import contextlib

from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination, ScanLimits, StopScan
from hauberk.scan.formats import examine


def examined(data: bytes, limits: ScanLimits | None = None) -> Examination:
    """The examination of a file of these bytes, whatever it is."""
    examination = Examination(limits)
    with contextlib.suppress(StopScan):
        examine(BytesContent(data), examination)
    return examination


def rules_of(data: bytes) -> set[str]:
    """The rules that these bytes break."""
    return {finding.rule for finding in examined(data).findings}
