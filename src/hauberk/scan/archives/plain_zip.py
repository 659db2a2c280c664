"""A zip archive that is nothing in particular: every member is examined for what it is itself."""

from __future__ import annotations

import contextlib

from hauberk.scan.archives.kinds import ZipKind
from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import Outcome, Rule, Severity, shown

EMPTY = Rule(
    "zip-empty",
    "an archive without members",
    Severity.LOW,
    Outcome.UNKNOWN,
    "There is nothing in it that could be judged.",
)


def examine_members(archive: Zip, examination: Examination, names: list[str]) -> None:
    """Examine members for what they are, and compare their checksums.

    Args:
        archive: Their archive.
        examination: Of the archive.
        names: Of the members.

    Raises:
        StopScan: Time is up, or the archive lies too deep.
    """
    for name in names:
        examination.check_time()
        member = archive.members[name]
        if not member.readable:
            continue
        if member.size:
            examination.examine(archive.content(name), shown(name))
        with contextlib.suppress(StopScan):
            archive.check(name)


def _examine(archive: Zip, examination: Examination) -> None:
    examination.facts["members"] = len(archive.members)
    if not archive.members:
        examination.find(EMPTY, "no members")
    examine_members(archive, examination, list(archive.members))


def _recognise(_: Zip) -> bool:
    return True


ZIP_KINDS = (ZipKind("zip", _recognise, _examine, (EMPTY,)),)
