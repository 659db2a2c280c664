"""What a zip archive turned out to be: the formats that are zip archives with certain members.

A kind must account for every member: those that its loader interprets by that loader's rules (and `Zip.check`, for the
checksum), all others through `Examination.examine`, as the last kind, a plain archive, does with all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination
from hauberk.scan.report import Rule


@dataclass(frozen=True)
class ZipKind:
    """A format that is a zip archive.

    Attributes:
        name: In lower case with hyphens; stands in reports.
        recognise: By names of members, and by their content where names do not tell.
        examine: Reports to the examination; raises as `hauberk.scan.formats.Format.examine`.
        rules: Everything that it may find, besides what any zip archive may have wrong with it.
    """

    name: str
    recognise: Callable[[Zip], bool]
    examine: Callable[[Zip, Examination], None]
    rules: tuple[Rule, ...]


# In the order of asking; each module has `ZIP_KINDS: tuple[ZipKind, ...]`. The first that recognises examines.
_MODULES = (
    "archives.torch_zip",
    "frameworks.keras",
    "frameworks.skops",
    "pickles.npz",
    "archives.plain_zip",
)


@cache
def zip_kinds() -> tuple[ZipKind, ...]:
    """All of them, in the order of asking."""
    return tuple(kind for module in _MODULES for kind in import_module(f"hauberk.scan.{module}").ZIP_KINDS)
