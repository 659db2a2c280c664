"""Zip archives among the formats that the scan knows."""

from __future__ import annotations

from hauberk.scan.archives.kinds import zip_kinds
from hauberk.scan.archives.zip import Zip, open_zip
from hauberk.scan.archives.zip_rules import ZIP_RULES
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.hdf5 import user_block
from hauberk.scan.overlays import HDF5_INSIDE, POLYGLOT, ZIP_BEGINNINGS


def _recognise(head: bytes, _: Content) -> bool:
    return head.startswith(ZIP_BEGINNINGS)


def _examine(content: Content, examination: Examination) -> str:
    examination.format = "zip"
    archive = open_zip(content, examination)
    kind = next(kind for kind in zip_kinds() if kind.recognise(archive))
    examination.format = kind.name
    _check_hdf5(archive, content, examination)
    for other in zip_kinds():
        if other.name in _BY_NAMED_MEMBERS - {kind.name} and other.recognise(archive):
            examination.find(POLYGLOT, f"is an archive of the format {other.name}, too")
    kind.examine(archive, examination)
    return kind.name


def _check_hdf5(archive: Zip, content: Content, examination: Examination) -> None:
    """Find an HDF5 file where the library looks for one, except as a member that is examined for what it is."""
    place = user_block(content)
    if not place:
        return
    numbers = examination.format in _WITH_NUMBERS
    if numbers or all(member.offset != place for member in archive.members.values()):
        examination.find(POLYGLOT, HDF5_INSIDE, at=place)


_BY_NAMED_MEMBERS = frozenset({"keras", "skops"})
"""Kinds whose readers look for members by their names and mind no others."""
_WITH_NUMBERS = frozenset({"pytorch-zip", "torch-exported-program", "torchscript"})
"""Kinds that hold bare numbers, which nobody looks into."""

FORMATS = (
    Format("zip", _recognise, _examine, ZIP_RULES + tuple(rule for kind in zip_kinds() for rule in kind.rules), b"P"),
)
