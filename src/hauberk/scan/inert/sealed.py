"""What Hauberk itself has encrypted, such as most members of its bundles: nobody without the key can look inside."""

from __future__ import annotations

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.report import Outcome, Rule, Severity

SEALED_DATA = Rule(
    "sealed-data",
    "encrypted by Hauberk",
    Severity.LOW,
    Outcome.UNKNOWN,
    "A scan has no key, so it cannot say what lies inside. Of a bundle, hauberk verify says who signed it.",
)
RULES = (SEALED_DATA,)

_START = b"hauberk\x01"  # of `hauberk.trust.encryption`, which needs a library that a scan does without


def _recognise(head: bytes, _: Content) -> bool:
    return head.startswith(_START)


def _examine(content: Content, examination: Examination) -> None:
    examination.find(SEALED_DATA, f"{content.size} bytes")


SEALED = Format("hauberk-sealed", _recognise, _examine, RULES, first=_START[:1])
