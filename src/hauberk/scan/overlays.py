"""One file, two formats: what a second reader would find in a content that a first one was recognised by."""

from __future__ import annotations

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.report import Outcome, Rule, Severity

POLYGLOT = Rule(
    "scan-polyglot",
    "two formats in one file",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers that look at the end of a file find an archive in it, others something else: what one of them checks is"
    " not what another one loads.",
    "https://cwe.mitre.org/data/definitions/436.html",
)
RULES = (POLYGLOT,)

_END = b"PK\x05\x06"
_LONGEST_COMMENT = 0xFFFF


def examine_overlays(content: Content, examination: Examination) -> None:
    """Find a zip archive at the end of what begins as something else.

    Args:
        content: What was recognised; zip archives in all their forms are examined by their own reader.
        examination: Reported to.
    """
    if content.head(4) in {b"PK\x03\x04", _END}:
        return
    tail = content.tail(len(_END) + 18 + _LONGEST_COMMENT)
    place = tail.rfind(_END)
    if place >= 0 and len(tail) - place >= 22 and tail[place + 20 : place + 22] == _left(len(tail) - place - 22):
        examination.find(POLYGLOT, "ends as a zip archive", at=content.size - len(tail) + place)


def _left(count: int) -> bytes:
    return count.to_bytes(2, "little")
