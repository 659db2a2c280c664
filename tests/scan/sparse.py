"""Checkpoints of many gigabytes whose weights are holes in the file: sound, and they take next to no disk."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import torch


def sparse_checkpoint(path: Path, size: int, *, tensors: int = 200) -> None:
    """A zip checkpoint of this size as torch writes it, whose weights are holes in the file: it takes no disk.

    The CRCs of the weights are those of so many zeros, so that it is sound.

    Args:
        path: Where to write it.
        size: Bytes of weights, about.
        tensors: Over how many tensors they are spread.
    """
    count = size // tensors // 4
    state = OrderedDict((f"layer{number}.weight", torch.zeros(1, dtype=torch.float32)) for number in range(tensors))
    stream = io.BytesIO()
    torch.save(state, stream)
    record = _resized(stream.getvalue(), count)
    crc = _crc_of_zeros(4 * count)
    members = [("archive/data.pkl", record), ("archive/byteorder", b"little"), ("archive/version", b"3\n")]
    entries: list[bytes] = []
    with path.open("wb") as file:
        for name, data in members:
            entries.append(_member(file, name, len(data), zlib.crc32(data)))
            file.write(data)
        for number in range(tensors):
            entries.append(_member(file, f"archive/data/{number}", 4 * count, crc))
            file.seek(4 * count, 1)
        _finish(file, entries)


def sparse_safetensors(path: Path, size: int, *, tensors: int = 200) -> None:
    """The same as safetensors: a header, the first weights, then a hole.

    The first weights are not zeros: an unpickler that is handed the file may read on to the next line end, so the scan
    does too, and real weights have one within some hundred bytes.
    """
    count = size // tensors // 4
    header = {
        f"layer{number}.weight": {
            "dtype": "F32",
            "shape": [count],
            "data_offsets": [4 * count * number, 4 * count * (number + 1)],
        }
        for number in range(tensors)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + bytes(range(256)))
        file.truncate(8 + len(text) + 4 * count * tensors)


def _resized(archive: bytes, count: int) -> bytes:
    """`data.pkl` of a saved state of one-element tensors, rewritten for tensors of `count` elements."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        name = next(name for name in opened.namelist() if name.endswith("data.pkl"))
        data = opened.read(name)
    number = b"J" + struct.pack("<i", count)
    # The elements of the storage; then offset and shape of the view. What follows puts either into the memo.
    data = re.sub(rb"K\x01(?=t[qr])", lambda _: number, data)
    return re.sub(rb"K\x00K\x01(?=\x85[qr])", lambda _: b"K\x00" + number, data)


def _crc_of_zeros(count: int) -> int:
    block, crc = bytes(1 << 24), 0
    while count:
        crc = zlib.crc32(block[: min(count, len(block))], crc)
        count -= min(count, len(block))
    return crc


def _member(file: BinaryIO, name: str, size: int, crc: int) -> bytes:
    """Write a local header, aligned as torch aligns; returns the entry for the directory."""
    start, encoded = file.tell(), name.encode()
    large = struct.pack("<HHQQ", 1, 16, size, size)
    padding = -(start + 30 + len(encoded) + len(large) + 4) % 64
    extra = large + struct.pack("<HH", 0x4246, padding) + b"Z" * padding
    unknown = 0xFFFFFFFF
    header = struct.pack("<HHHHHIII", 45, 0x800, 0, 0, 0x21, crc, unknown, unknown)
    file.write(b"PK\x03\x04" + header + struct.pack("<HH", len(encoded), len(extra)) + encoded + extra)
    entry = struct.pack("<HHQQQ", 1, 24, size, size, start)
    lengths = struct.pack("<HHHHHII", len(encoded), len(entry), 0, 0, 0, 0, unknown)
    return b"PK\x01\x02" + struct.pack("<H", 45) + header + lengths + encoded + entry


def _finish(file: BinaryIO, entries: list[bytes]) -> None:
    start = file.tell()
    file.write(b"".join(entries))
    end, count = file.tell(), len(entries)
    size = end - start
    file.write(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start))
    file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
    file.write(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, size, 0xFFFFFFFF, 0))
