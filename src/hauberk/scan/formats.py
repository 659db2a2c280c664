"""Which format is this, by its content alone, and who examines it.

A format is a name and two functions. `recognise` looks at the first bytes (and may read on) and says whether the
content is meant for this format's readers; `examine` follows it and reports. The first format that recognises a content
examines it, so stricter signs stand before looser ones. Formats that a loader would try as well, whatever the first
bytes say (a pickle behind an image's header), are the business of the format that comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import FAILED, UNRECOGNISED, Examination, StopScan
from hauberk.scan.overlays import examine_overlays
from hauberk.scan.report import Rule

HEAD = 64
"""Bytes that `recognise` is handed."""


@dataclass(frozen=True)
class Format:
    """A format that the scan knows.

    Attributes:
        name: In lower case with hyphens; stands in reports.
        recognise: From the first `HEAD` bytes (fewer where there are no more) and the content; never raises but
            `CutError`, which counts as no.
        examine: Reports to the examination, and may return a more exact name of the format (of what a zip archive
            turned out to be); may raise `StopScan` (it has said why), `CutError`, `ValueError`,
            `struct.error`, `IndexError`, `KeyError`, `OverflowError`, `RecursionError` never on purpose: they are
            taken for a fault of the scanner, and the verdict is then unknown.
        rules: Everything that it may find.
        first: The bytes that a content of it can begin with; empty for any. It is not asked about others, which is most
            of what recognising a small file would cost.
    """

    name: str
    recognise: Callable[[bytes, Content], bool]
    examine: Callable[[Content, Examination], str | None]
    rules: tuple[Rule, ...]
    first: bytes = b""


# In the order of asking. Each module has `FORMATS: tuple[Format, ...]`.
_MODULES: tuple[str, ...] = ("archives", "weights", "graphs", "frameworks", "pickles", "inert")


@cache
def formats() -> tuple[Format, ...]:
    """All of them, in the order of asking."""
    return tuple(each for module in _MODULES for each in import_module(f"hauberk.scan.{module}").FORMATS)


@cache
def _beginning_with(first: int) -> tuple[Format, ...]:
    return tuple(each for each in formats() if not each.first or first in each.first)


def recognise(content: Content) -> Format | None:
    """Who examines this content; `None` where nobody knows it."""
    head = content.head(HEAD)
    for each in _beginning_with(head[0]) if head else formats():
        try:
            if each.recognise(head, content):
                return each
        except CutError:
            continue
    return None


def examine(content: Content, examination: Examination) -> str:
    """Recognise a content and examine it; returns the name of its format, empty where it has none.

    Whatever goes wrong inside becomes a finding that makes the verdict unknown. What other readers would find at its
    end or its beginning is looked at however that went.

    Raises:
        StopScan: Nothing more of it is to be looked at; the reason has been noted.
    """
    stopped = False
    for look in (_examine_as_recognised, examine_overlays):
        try:
            look(content, examination)
        except StopScan:
            stopped = True
        except Exception as error:  # noqa: BLE001 - a scanner that fails does not know
            inside = f" while reading {examination.format}" if examination.format else ""
            examination.find(FAILED, f"{type(error).__name__}{inside}")
    if stopped:
        raise StopScan
    return examination.format


def _examine_as_recognised(content: Content, examination: Examination) -> None:
    known = recognise(content)
    if known is None:
        examination.find(UNRECOGNISED, f"begins with {content.head(8).hex(' ') or 'nothing: it is empty'}")
        return
    examination.format = known.name
    examination.format = known.examine(content, examination) or known.name
