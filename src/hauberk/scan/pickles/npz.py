"""numpy's `.npz`: a zip archive of arrays.

numpy looks at the content of a member, not at its name: what begins like an array is read as one, anything else is
handed out as bytes. So every member is examined for what it is.
"""

from __future__ import annotations

from hauberk.scan.archives.kinds import ZipKind
from hauberk.scan.archives.plain_zip import examine_members
from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination
from hauberk.scan.pickles import npy


def recognise(archive: Zip) -> bool:
    """By the names that `numpy.savez` gives, all of them."""
    return bool(archive.members) and all(name.endswith(".npy") for name in archive.members)


def examine(archive: Zip, examination: Examination) -> None:
    """Examine every member."""
    examination.facts["arrays"] = len(archive.members)
    examine_members(archive, examination, list(archive.members))


ZIP_KINDS = (ZipKind("npz", recognise, examine, npy.RULES),)
