"""Small writers of protobuf messages, zip archives and flatbuffers, enough to make files by hand."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "fixtures"


def varint(value: int) -> bytes:
    """A number in base 128."""
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def field(number: int, value: int | bytes | str) -> bytes:
    """A field of a message: a whole number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def zipped(path: Path, members: dict[str, bytes | str]) -> Path:
    """A zip archive of these members, the same bytes each time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)
    return path


def written(path: Path, data: bytes | str) -> Path:
    """A file of these bytes."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def as_json(value: Any) -> str:
    """JSON text."""
    return json.dumps(value)
