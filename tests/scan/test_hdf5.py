"""The structure that our reader finds is the one that the HDF5 library finds, whatever wrote the file."""

from __future__ import annotations

import io
import json
import tracemalloc

import h5py
import numpy as np
import pytest

from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination, ScanLimits, StopScan
from hauberk.scan.frameworks import hdf5, hdf5_heaps
from hauberk.scan.frameworks.hdf5_heaps import texts
from hauberk.scan.frameworks.hdf5_objects import Reader
from hauberk.scan.frameworks.hdf5_values import checksum


def made(fill, **options):
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        fill(file)
    return stream.getvalue()


def scanned(data):
    examination = Examination()
    kind = hdf5.examine(BytesContent(data), examination)
    return kind, examination


def peak_of(data, limits):
    """Bytes that the scan takes at its peak, and what it found."""
    examination = Examination(limits)
    tracemalloc.start()
    try:
        hdf5.examine(BytesContent(data), examination)
    except StopScan:
        pass  # noted as a finding
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak, examination


def counted(data):
    """Groups and datasets, as the library sees them; an object of several names counts once."""
    found = set()
    with h5py.File(io.BytesIO(data)) as file:

        def visit(name):
            each = file[name]
            found.add((type(each).__name__, h5py.h5o.get_info(each.id).addr))

        file.visit(visit)
    kinds = [kind for kind, _ in found]
    return kinds.count("Group") + 1, kinds.count("Dataset")


def forest(rng, depth, names):
    def fill(group, left=depth):
        for index in range(int(rng.integers(1, names))):
            if left and rng.random() < 0.5:
                fill(group.create_group(f"group number {index}"), left - 1)
            else:
                shape = tuple(int(size) for size in rng.integers(0, 5, int(rng.integers(0, 4))))
                group.create_dataset(f"dataset {index}", data=np.zeros(shape, rng.choice(["f4", "i8", "u1", "S7"])))
            group.attrs[f"attribute {index}"] = [index, "text", b"bytes", [1.5, 2.5]][index % 4]

    return fill


@pytest.mark.parametrize("version", ["earliest", "v108", "v110", "latest"])
@pytest.mark.parametrize("order", [False, True])
def test_every_object_is_found(version, order):
    for seed in range(4):
        data = made(forest(np.random.default_rng(seed), 3, 9), libver=version, track_order=order)
        kind, examination = scanned(data)
        assert (examination.facts["groups"], examination.facts["datasets"]) == counted(data)
        assert (kind, examination.verdict) == ("hdf5", "safe")


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("count", [1, 8, 9, 50, 600])
def test_groups_and_attributes_in_great_numbers(version, count):
    def fill(file):
        for index in range(count):
            file.create_group(f"{index:05d}")
            file["00000"].attrs[f"{index:05d}"] = index
        file["00000"].attrs["model_config"] = json.dumps({"class_name": "Lambda", "config": {}})

    kind, examination = scanned(made(fill, libver=version))
    assert examination.facts["groups"] == count + 1
    assert (kind, examination.verdict) == ("keras-h5", "unsafe")


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes of variable length",
        np.bytes_(b"bytes of fixed length"),
        "x" * 60_000,
        "x" * 900_000,
        "größer",
    ],
)
def test_texts_are_what_the_library_reads(value):
    data = made(lambda file: file.attrs.__setitem__("a", value))
    reader = Reader(BytesContent(data), Examination())
    (message,) = [each for each in reader.object(reader.root).messages if each.kind == 0x0C]
    expected = value.encode() if isinstance(value, str) else bytes(value)
    assert texts(reader, reader.attribute(message)) == [expected]


def test_lists_of_texts_are_what_the_library_reads():
    names = [f"layer {index}".encode() for index in range(20)]
    data = made(lambda file: file.attrs.__setitem__("layer_names", names))
    reader = Reader(BytesContent(data), Examination())
    (message,) = [each for each in reader.object(reader.root).messages if each.kind == 0x0C]
    assert texts(reader, reader.attribute(message)) == names


def test_the_numbers_of_datasets_are_not_read():
    class Watched(BytesContent):
        count = 0

        def _read(self, offset, length):
            self.count += length
            return super()._read(offset, length)

    content = Watched(made(lambda file: file.create_dataset("x", data=np.zeros(4_000_000))))
    hdf5.examine(content, Examination())
    assert content.count < 20_000


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_every_cut_is_unknown_or_worse_and_never_a_fault(version):
    data = made(forest(np.random.default_rng(3), 2, 6), libver=version)
    for end in range(16, len(data), max(1, len(data) // 150)):
        _, examination = scanned(data[:end])
        assert examination.verdict != "safe"
        assert "scan-failed" not in {finding.rule for finding in examination.findings}


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_damage_never_hides_an_external_link(version):
    """What the library still finds in a damaged file, the scan finds or says that it cannot follow."""

    def fill(file):
        file["stolen"] = h5py.ExternalLink("/srv/other.h5", "/x")

    data, rng = made(fill, libver=version), np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(data)
        changed[int(rng.integers(8, len(data)))] = int(rng.integers(0, 256))
        try:
            with h5py.File(io.BytesIO(bytes(changed))) as file:
                linked = any(isinstance(file.get(name, getlink=True), h5py.ExternalLink) for name in file)
        except (OSError, RuntimeError, KeyError, ValueError, OverflowError, TypeError):
            continue
        assert not linked or scanned(bytes(changed))[1].verdict != "safe"


def test_a_circle_of_links_ends():
    def fill(file):
        file.create_group("a")["back"] = file["/"]

    assert scanned(made(fill))[1].facts["groups"] == 2


@pytest.mark.parametrize(("data", "expected"), [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)])
def test_checksums_are_those_of_their_inventor(data, expected):
    assert checksum(data) == expected  # from the driver in https://burtleburtle.net/bob/c/lookup3.c


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_the_library_opens_and_walks_what_is_called_safe(version):
    """Of damaged files, too: what the library refuses is not safe."""

    def fill(file):
        forest(np.random.default_rng(5), 2, 6)(file)
        file.create_dataset("chunks", data=np.arange(20), chunks=(3,), compression="gzip")
        file.attrs["texts"] = ["a", "größer"]

    data, rng, safe = made(fill, libver=version), np.random.default_rng(2), 0
    for _ in range(400):
        changed = bytearray(data)
        for at in rng.integers(8, len(data), int(rng.integers(1, 3))):
            changed[int(at)] = int(rng.choice([0, 1, 2, 3, 8, 128, 255]))
        _, examination = scanned(bytes(changed))
        if examination.verdict != "safe":
            continue
        safe += 1
        found = (examination.facts["groups"], examination.facts["datasets"])
        assert found == counted(bytes(changed))
        with h5py.File(io.BytesIO(bytes(changed))) as file:
            file.visititems(lambda _, item: [item.attrs[name] for name in item.attrs] and None)
            assert isinstance([file.attrs[name] for name in file.attrs], list)
    assert safe > 20


def great_chunk(size):
    return made(lambda file: file.create_dataset("x", data=np.zeros(size, "u1"), chunks=(size,), compression="gzip"))


def test_chunks_are_unpacked_piece_by_piece():
    """As far as the limit goes, however large a chunk is, and with little of it in memory at once."""
    data = great_chunk(64 << 20)
    peak, examination = peak_of(data, ScanLimits(model_memory=1 << 20))
    assert (peak < 8 << 20, examination.verdict) == (True, "safe")
    peak, examination = peak_of(data, ScanLimits(model_memory=1 << 20, unpacked=(64 << 20) - 1))
    assert (peak < 8 << 20, {finding.rule for finding in examination.findings}) == (True, {"scan-too-much"})


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 7])
def test_what_a_chunk_unpacks_to_is_counted_to_its_end(size):
    data = great_chunk(size)
    limits = {"model_memory": 1}
    assert peak_of(data, ScanLimits(**limits, unpacked=size))[1].verdict == "safe"
    assert peak_of(data, ScanLimits(**limits, unpacked=size - 1))[1].verdict == "unknown"


def many_links(file):
    for index in range(600):
        file.create_group(f"{index:05d}")


def test_heaps_of_great_blocks_are_not_followed():
    data = bytearray(made(many_links, libver="latest"))
    head = data.index(b"FRHP")
    data[head + 120 : head + 128] = (8 << 20).to_bytes(8, "little")  # the largest block
    data[head + 142 : head + 146] = checksum(bytes(data[head : head + 142])).to_bytes(4, "little")
    _, examination = scanned(bytes(data))
    assert examination.verdict == "unknown"
    assert "a damaged heap of objects" in examination.findings[0].what


def test_of_a_heap_only_so_much_is_kept(monkeypatch):
    data = made(many_links, libver="latest")
    assert scanned(data)[1].verdict == "safe"
    monkeypatch.setattr(hdf5_heaps, "_HEAP_MOST", 4096)
    assert "a heap of objects with a block" in scanned(data)[1].findings[0].what


@pytest.mark.parametrize(("count", "verdict"), [(60, "safe"), (80, "unknown")])
def test_headers_of_many_megabytes_are_not_followed(count, verdict):
    def fill(file):
        for index in range(count):
            file.attrs[f"{index}"] = np.zeros(60_000, "u1")

    assert scanned(made(fill, libver="earliest"))[1].verdict == verdict


def test_a_great_piece_is_read_within_the_time():
    data = great_chunk(100) + bytes(1 << 21)
    reader = Reader(BytesContent(data), Examination(ScanLimits(seconds=0)))
    reader.limit = len(data)
    with pytest.raises(StopScan):
        reader.read(0, 1 << 20)
