"""What all zip archives of torch have in common: small records, pickles, and the storages that pickles refer to."""

from __future__ import annotations

import contextlib
import re

from hauberk.scan.archives import torch_rules as rules
from hauberk.scan.archives.zip import Zip
from hauberk.scan.archives.zip_directory import STORED
from hauberk.scan.archives.zip_layout import ARRAY
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.pickles import PickleResult, Storage, examine_pickle, torch_storage
from hauberk.scan.pickles.calls import Admitted
from hauberk.scan.report import shown

_LONGEST_RECORD = 64
_NUMBER = re.compile(rb"[0-9]{1,39}\n?")
_RECORDS = {
    "version": _NUMBER,
    ".data/version": _NUMBER,
    ".format_version": _NUMBER,
    ".data/serialization_id": re.compile(rb"[0-9]{0,64}"),
    ".storage_alignment": re.compile(rb"[0-9]{1,8}"),
    "byteorder": re.compile(rb"little|big"),
    "archive_format": re.compile(rb"pt2"),
    "archive_version": _NUMBER,
}


def check_records(archive: Zip, members: dict[str, str], examination: Examination) -> list[str]:
    """Compare the small records that torch's reader interprets; returns all other members of the archive."""
    for short, pattern in _RECORDS.items():
        if (name := members.get(short)) is None or not archive.members[name].readable:
            continue
        content = archive.content(name)
        value = b"" if content.size > _LONGEST_RECORD else content.read(0, content.size)
        if not pattern.fullmatch(value):
            examination.find(rules.RECORD, f"'{shown(short)}': '{shown(value, 20)}', {content.size} bytes")
        with contextlib.suppress(StopScan):
            archive.check(name)
    known = {members[short] for short in _RECORDS if short in members}
    return [name for name in archive.members if name not in known]


def examine_torch_pickle(
    archive: Zip, name: str, examination: Examination, *, admitted: Admitted | None = None
) -> PickleResult:
    """Follow a pickle of an archive that refers to tensor storages beside it.

    Args:
        archive: The archive.
        name: Of the member.
        examination: Of the archive.
        admitted: See `examine_pickle`.
    """
    result = PickleResult(None, (), ())
    with examination.inside(shown(name)) as child:
        content = archive.content(name)
        archive.check(name)
        result = examine_pickle(content, child, persistent=torch_storage, admitted=admitted)
        if result.end is not None and result.end < content.size:
            child.find(rules.TRAILING, f"{content.size - result.end} bytes", at=result.end)
    return result


def check_storages(
    archive: Zip, members: dict[str, str], folder: str, storages: tuple[Storage, ...], examination: Examination
) -> set[str]:
    """See that every storage is there and as long as the pickle claims; returns the members that hold them."""
    used = set()
    for key, size in dict.fromkeys((storage.key, storage.size) for storage in storages):
        name = members.get(folder + key)
        member = archive.members[name] if name is not None else None
        if name is None or member is None or member.offset < 0:
            # A tensor without elements has a storage of no bytes, which torch looks up all the same.
            examination.find(rules.STORAGE, f"storage '{shown(key, 40)}' is not there")
            continue
        used.add(name)
        if member.size < size:
            examination.find(rules.STORAGE, f"storage '{shown(key, 40)}' has {member.size} bytes of {size}")
        elif member.size > size:
            what = f"storage '{shown(key, 40)}' has {member.size} bytes, {size} claimed"
            examination.find(rules.STORAGE_LONGER, what)
        if member.method != STORED and member.compressed_size:
            examination.find(rules.COMPRESSED, f"storage '{shown(key, 40)}'")
    keys = "".join(storage.key for storage in storages)
    if keys and not (keys.isascii() and keys.isdecimal()):
        key = next(storage.key for storage in storages if not (storage.key.isascii() and storage.key.isdecimal()))
        examination.find(rules.STORAGE_NAME, f"storage '{shown(key, 40)}'")
    check_arrays(archive, used, examination)
    return used


def check_arrays(archive: Zip, numbers: set[str], examination: Examination) -> None:
    """Examine members that nobody looks into, because they hold bare numbers, where numpy would find an array."""
    packed = {name for name in numbers if archive.members[name].method != STORED}
    for name in sorted(packed | (numbers & archive.arrays)):
        if not archive.members[name].readable:
            continue
        if name in archive.arrays or archive.content(name).head(len(ARRAY)) == ARRAY:
            examination.examine(archive.content(name), shown(name))
        if name in packed:
            with contextlib.suppress(StopScan):
                archive.check(name)
