"""Zip archives among the formats that the scan knows."""

from __future__ import annotations

from hauberk.scan.archives.kinds import zip_kinds
from hauberk.scan.archives.zip import open_zip
from hauberk.scan.archives.zip_rules import ZIP_RULES
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.overlays import ZIP_BEGINNINGS


def _recognise(head: bytes, _: Content) -> bool:
    return head.startswith(ZIP_BEGINNINGS)


def _examine(content: Content, examination: Examination) -> str:
    examination.format = "zip"
    archive = open_zip(content, examination)
    kind = next(kind for kind in zip_kinds() if kind.recognise(archive))
    examination.format = kind.name
    kind.examine(archive, examination)
    return kind.name


FORMATS = (
    Format("zip", _recognise, _examine, ZIP_RULES + tuple(rule for kind in zip_kinds() for rule in kind.rules), b"P"),
)
