"""The zip archive that `torch.save` writes: is it one, and does it hold only tensors?

Two zip readers can see two different archives in one file. Torch reads with its own (miniz), so this scan reads the
directory with Python's `zipfile`, asks for the form that `torch.save` writes (stored, one root folder, known members,
no doubles, no overlaps), and then compares with torch's reader: the pickle that is scanned must be the one that torch
finds, and every storage must lie where torch looks for it. Storages must be as long as the pickle claims: mapped
loading takes the pickle's word.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
from typing import Any

import torch

from hauberk.errors import RefusedModelError
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.scan.pickle import MAX_PICKLE_BYTES, scan_pickle

_MAX_MEMBERS = 100_000
_MAX_DIRECTORY = (
    16 << 20
)  # bytes; `zipfile` makes objects of all of it, ten times as large, before anyone can count them
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, …, length of name, length of extra field
_END = struct.Struct("<4s8xL4x2s")  # signature, …, size of the directory, …, length of the comment
_END64_LOCATOR = struct.Struct("<4s4xQ4x")  # signature, …, place of the following one
_END64 = struct.Struct("<4s36xQ8x")  # signature, …, size of the directory, …
_MEMBERS = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]{1,9}"
)


def scan_archive(copy: PrivateCopy) -> None:
    """Accept an archive of tensors.

    Raises:
        RefusedModelError: It is damaged, unusual in a way that `torch.save` never is, holds code, or its pickle asks
            for more than tensors; the message names what.
    """
    where = str(copy.source)
    _refuse_long_directory(copy, where)
    members = _members(copy, where)
    offsets = _offsets(copy, members, where)
    pickle = members["data.pkl"]
    if pickle.file_size > MAX_PICKLE_BYTES:
        raise RefusedModelError(f"{where}: refused: its pickle has {pickle.file_size} bytes, which no state dict needs")
    content = copy.read(offsets["data.pkl"], pickle.file_size)
    storages = scan_pickle(content, where)
    for key, size in storages:
        member = members.get(f"data/{key}")
        if member is None or size > member.file_size:
            raise RefusedModelError(
                f"{where}: refused: tensor storage {key[:20]!r} is not there, or shorter than claimed"
            )
    _compare_with_torch(copy, members, offsets, content, where)


def _refuse_long_directory(copy: PrivateCopy, where: str) -> None:
    """Refuse a directory that would exhaust memory, and an end that two readers might look for in two places."""
    length = _END64.size + _END64_LOCATOR.size + _END.size  # of the three records that may end an archive
    tail = copy.read(max(0, copy.size - length), min(length, copy.size)).rjust(length, b"\0")
    signature, size, comment = _END.unpack_from(tail, length - _END.size)
    if signature != b"PK\x05\x06" or comment != b"\0\0":
        raise RefusedModelError(f"{where}: damaged zip archive: it is cut, or something follows it")
    locator, place = _END64_LOCATOR.unpack_from(tail, _END64.size)
    if locator == b"PK\x06\x07":  # torch always writes this larger form, too
        signature, size = _END64.unpack_from(tail)
        if signature != b"PK\x06\x06" or place != copy.size - length:
            raise RefusedModelError(f"{where}: refused: the zip archive contradicts itself about where it ends")
    if size > _MAX_DIRECTORY:
        raise RefusedModelError(f"{where}: refused: a zip directory of {size} bytes, which no state dict needs")


def _members(copy: PrivateCopy, where: str) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by their name below the root folder."""
    try:
        with os.fdopen(os.dup(copy.descriptor), "rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError) as error:
        raise RefusedModelError(f"{where}: damaged zip archive: {error}") from error
    if len(entries) > _MAX_MEMBERS:
        raise RefusedModelError(f"{where}: refused: {len(entries)} members, which no state dict needs")
    root = entries[0].filename.partition("/")[0] if entries else ""
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        folder, _, name = entry.filename.partition("/")
        if entry.filename == "manifest.json":
            raise RefusedModelError(f"{where}: refused: a Hauberk bundle, it seems; give the model that it was made of")
        if name == "constants.pkl" or name.startswith("code/"):
            raise RefusedModelError(
                f"{where}: refused: a TorchScript archive, which holds code; save model.state_dict() instead"
            )
        if folder != root or not _MEMBERS.fullmatch(name):
            raise RefusedModelError(f"{where}: refused: member {entry.filename[:80]!r}, which torch.save never writes")
        if name in members:
            raise RefusedModelError(f"{where}: refused: member {entry.filename[:80]!r} occurs twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise RefusedModelError(f"{where}: refused: member {entry.filename[:80]!r} is compressed or encrypted")
        members[name] = entry
    if "data.pkl" not in members:
        raise RefusedModelError(f"{where}: refused: a zip archive without data.pkl; this is not what torch.save writes")
    return members


def _offsets(copy: PrivateCopy, members: dict[str, zipfile.ZipInfo], where: str) -> dict[str, int]:
    """Where each member's bytes begin; members lie behind one another and bear the same name in both headers."""
    offsets = {}
    end = 0
    for name, entry in sorted(members.items(), key=lambda pair: pair[1].header_offset):
        header = copy.read(entry.header_offset, _LOCAL_HEADER.size)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        local_name = copy.read(entry.header_offset + _LOCAL_HEADER.size, name_length)
        if signature != b"PK\x03\x04" or local_name != entry.orig_filename.encode() or entry.header_offset < end:
            raise RefusedModelError(f"{where}: refused: the zip archive contradicts itself at {entry.filename[:80]!r}")
        offsets[name] = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        end = offsets[name] + entry.file_size
    if end > copy.size:
        raise RefusedModelError(f"{where}: damaged: the zip archive is cut")
    return offsets


def _compare_with_torch(
    copy: PrivateCopy, members: dict[str, zipfile.ZipInfo], offsets: dict[str, int], pickle: bytes, where: str
) -> None:
    """Refuse an archive that torch's own reader sees differently."""
    try:
        reader: Any = torch._C.PyTorchFileReader(copy.path)  # noqa: SLF001 - torch.load's reader has no public name
        same = all(
            reader.get_record_offset(name) == offsets[name] and reader.get_record_size(name) == member.file_size
            for name, member in members.items()
        )
        same = same and reader.get_record("data.pkl") == pickle  # allocates what the reader believes the size to be
    except (RuntimeError, UnicodeDecodeError) as error:  # a message that quotes the file's bytes is no UTF-8
        raise RefusedModelError(f"{where}: refused: torch cannot read this archive: {_first_line(error)}") from error
    if not same:
        raise RefusedModelError(f"{where}: refused: two zip readers see different contents in it")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
