"""HDF5 files that do what they should not: other files, bombs, tables that disagree, texts that never end."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, UNSAFE, Case
from corpus.messages import written
from hauberk.scan.frameworks.hdf5_values import checksum

BOMB = "https://cwe.mitre.org/data/definitions/789.html"
LOOP = "https://cwe.mitre.org/data/definitions/835.html"
PACKED = "https://cwe.mitre.org/data/definitions/409.html"
GHSA = "https://github.com/advisories/"
NVD = "https://nvd.nist.gov/vuln/detail/"


def weights(fill: Callable[[Any], None] | None = None, **options: Any) -> bytes:
    """An HDF5 file, filled by a function."""
    import h5py
    import numpy as np

    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        file.create_group("layers/dense/vars").create_dataset("0", data=np.ones((4, 2), np.float32))
        if fill:
            fill(file)
    return stream.getvalue()


def hdf5(fill: Callable[[Any], None], **options: Any) -> Callable[[Path], Path]:
    """Writes an HDF5 file."""
    return lambda folder: written(folder / "weights.h5", weights(fill, **options))


def external_link(file: Any) -> None:
    import h5py

    file["stolen"] = h5py.ExternalLink("/srv/other.h5", "/x")


def _external_data(file: Any) -> None:
    file.create_dataset("stolen", shape=(16,), dtype="u1", external=[("/etc/hostname", 0, 16)])


def _virtual(file: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("/srv/other.h5", "x", shape=(4,))
    file.create_virtual_dataset("stolen", layout)


def _bomb(file: Any) -> None:
    file.create_dataset("bomb", shape=(1 << 40,), dtype="f8", chunks=(1 << 16,))


def _pickled(file: Any) -> None:
    file.attrs["PYTABLES_FORMAT_VERSION"] = b"2.1"
    file.attrs["settings"] = b"cos\nsystem\n(S'true'\ntR."


def _object_array(file: Any) -> None:
    file["layers"].attrs["PSEUDOATOM"] = b"object"


def _plug_in_filter(folder: Path) -> Path:
    """A dataset whose filter has the number of a plug-in: the number of deflate is overwritten."""

    def fill(file: Any) -> None:
        file.create_dataset("packed", data=b"0" * 64, chunks=None)
        file.create_dataset("numbers", data=range(64), chunks=(64,), compression="gzip")

    data = bytearray(weights(fill))
    at = data.find(b"\x01\x00\x08\x00\x01\x00\x01\x00deflate")  # identifier, length of name, flags, values, name
    data[at : at + 2] = (32015).to_bytes(2, "little")
    return written(folder / "weights.h5", bytes(data))


def _chunk(file: Any, data: bytes, filters: int) -> None:
    """A chunk of 1,024 bytes, as it is stored behind so many times deflate."""
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1024,))
    for _ in range(filters):
        plan.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_MANDATORY, (9,))
    space = h5py.h5s.create_simple((1024,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, plan).write_direct_chunk((0,), data)


def _packed_twice(file: Any) -> None:
    """Two kilobytes that unpack to 64 MB; the library sets no limit."""
    _chunk(file, zlib.compress(zlib.compress(bytes(1 << 26), 9), 9), 2)


def _packed_far(file: Any) -> None:
    _chunk(file, zlib.compress(bytes(1 << 24), 9), 1)


def _two_tables(folder: Path) -> Path:
    """A group whose table by order names another link than its table by name."""
    data = bytearray(weights(lambda file: [file.create_group(f"{each:02d}") for each in range(20)], **IN_ORDER))
    node = data.index(b"BTLF\0\6")
    count = 21
    end = node + 6 + 15 * count
    first, second = (bytes(data[node + 6 + 15 * each + 8 : node + 6 + 15 * each + 15]) for each in (0, 1))
    assert first != second
    data[node + 6 + 8 : node + 6 + 15] = second
    data[end : end + 4] = checksum(bytes(data[node:end])).to_bytes(4, "little")
    return written(folder / "weights.h5", bytes(data))


IN_ORDER = {"libver": "latest", "track_order": True}


def _wrong_checksum(folder: Path) -> Path:
    data = bytearray(weights(libver="latest"))
    data[data.index(b"OHDR") + 8] ^= 1  # a time, which nothing else looks at
    return written(folder / "weights.h5", bytes(data))


def _endless_heap(text: Any) -> Callable[[Path], Path]:
    """Free space of no size in a heap of texts: the library never returns from it."""

    def make(folder: Path) -> Path:
        data = bytearray(weights(text))
        heap = data.index(b"GCOL")
        size = int.from_bytes(data[heap + 8 : heap + 16], "little")
        at = heap + 16
        while int.from_bytes(data[at : at + 2], "little"):
            at += 16 + (int.from_bytes(data[at + 8 : at + 16], "little") + 7 & ~7)
        assert int.from_bytes(data[at + 8 : at + 16], "little") == heap + size - at
        data[at + 8 : at + 16] = bytes(8)
        return written(folder / "weights.h5", bytes(data))

    return make


def _first_value(file: Any) -> None:
    """A text that elements have before they are written: it lies in a heap, too."""
    import h5py

    file.create_dataset("a", shape=(2,), dtype=h5py.string_dtype(), fillvalue="text")


def _regions(file: Any) -> None:
    import h5py

    regions = file.create_dataset("a", shape=(1,), dtype=h5py.regionref_dtype)
    regions[0] = file["layers/dense/vars/0"].regionref[1:2]


def _many_large(file: Any) -> None:
    for index in range(20):
        file.create_dataset(f"large{index}", shape=(1 << 29,), dtype="f4")


def _scaled(file: Any) -> None:
    file.create_dataset("x", data=range(8), chunks=(4,), scaleoffset=4)


def _cut(folder: Path) -> Path:
    data = weights()
    return written(folder / "weights.h5", data[: len(data) // 2])


HDF5_CASES = (
    Case("h5-packed-twice", hdf5(_packed_twice), UNKNOWN, PACKED),
    Case("h5-packed-far", hdf5(_packed_far), UNKNOWN, PACKED),
    Case("h5-two-tables", _two_tables, UNKNOWN, "https://cwe.mitre.org/data/definitions/436.html"),
    Case("h5-endless-heap", _endless_heap(lambda file: file.attrs.__setitem__("a", "text")), UNKNOWN, LOOP),
    Case("h5-endless-elements", _endless_heap(lambda file: file.create_dataset("a", data=["text"])), UNKNOWN, LOOP),
    Case("h5-endless-first-value", _endless_heap(_first_value), UNKNOWN, LOOP),
    Case("h5-regions", hdf5(_regions), UNKNOWN, LOOP),
    Case("h5-shape-bombs-together", hdf5(_many_large), UNSAFE, BOMB),
    Case("h5-checksum", _wrong_checksum, UNKNOWN),
    Case("h5-numbers-of-parts", hdf5(_scaled), UNKNOWN),
    Case("h5-external-link", hdf5(external_link), UNSAFE, NVD + "CVE-2026-1669"),
    Case("h5-external-link-latest", hdf5(external_link, libver="latest"), UNSAFE, NVD + "CVE-2026-1669"),
    Case("h5-external-data", hdf5(_external_data), UNSAFE, NVD + "CVE-2026-1669"),
    Case("h5-virtual-dataset", hdf5(_virtual), UNSAFE, "https://github.com/keras-team/keras/pull/22976"),
    Case("h5-shape-bomb", hdf5(_bomb), UNSAFE, GHSA + "GHSA-xfhx-r7ww-5995"),
    Case(
        "h5-pickled-attribute",
        hdf5(_pickled),
        UNSAFE,
        "https://www.pytables.org/usersguide/libref/declarative_classes.html",
    ),
    Case("h5-pickled-array", hdf5(_object_array), UNSAFE),
    Case("h5-plug-in-filter", _plug_in_filter, UNKNOWN),
    Case("h5-cut", _cut, UNKNOWN),
)
