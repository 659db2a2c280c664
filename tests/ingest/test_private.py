"""The private copy: the bytes of one moment, sealed."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from pathlib import Path

import pytest
import torch

from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest import private
from hauberk.ingest.admission import admit
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.weights import read_checkpoint


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 40_000)
    return path


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_copy_has_the_bytes_and_the_digest_of_the_file(file):
    with PrivateCopy(file) as copy:
        assert copy.read(0, copy.size) == file.read_bytes()
        assert copy.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert copy.head(3) == b"\x00\x01\x02"


def test_the_path_leads_to_the_copy_not_to_the_file(file):
    with PrivateCopy(file) as copy:
        file.write_bytes(b"something else")
        assert Path(copy.path).read_bytes()[:4] == b"\x00\x01\x02\x03"


@pytest.mark.parametrize(
    "change",
    [
        lambda descriptor: os.pwrite(descriptor, b"x", 0),
        lambda descriptor: os.ftruncate(descriptor, 1),
        lambda descriptor: os.ftruncate(descriptor, 1 << 30),
    ],
    ids=["write", "shrink", "grow"],
)
def test_not_even_this_process_can_change_the_copy(file, change):
    with PrivateCopy(file) as copy, pytest.raises(PermissionError):
        change(copy.descriptor)


def through_a_mapping(path: Path, other: bytes) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[:] = other


def in_place(path: Path, other: bytes) -> None:
    with path.open("r+b") as file:
        file.write(other)


def by_rename(path: Path, other: bytes) -> None:
    path.with_suffix(".new").write_bytes(other)
    path.with_suffix(".new").rename(path)


def by_truncation(path: Path, other: bytes) -> None:
    os.truncate(path, len(other) // 3)


@pytest.mark.parametrize("in_memory", [None, 0], ids=["in memory", "on disk"])
@pytest.mark.parametrize("change", [through_a_mapping, in_place, by_rename, by_truncation])
def test_a_file_that_is_changed_after_the_scan_does_not_matter(tmp_path, change, in_memory):
    """Scan, then change the file to other weights, or none: the scanned ones are loaded."""
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(2000)}, path)
    other = path.read_bytes().replace(torch.ones(2000).numpy().tobytes(), torch.zeros(2000).numpy().tobytes())
    with PrivateCopy(path, in_memory=in_memory) as copy:
        admit(copy)
        change(path, other)
        state = read_checkpoint(copy)
        change(path, other)
    assert path.stat().st_size < len(other) or path.read_bytes() == other
    assert torch.equal(state["weight"], torch.ones(2000))


def test_a_copy_on_disk_has_no_name_and_is_closed_to_writing(file, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    with PrivateCopy(file, in_memory=1000) as copy:
        assert not copy.sealed
        assert set(tmp_path.iterdir()) == before
        assert copy.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert copy.read(0, copy.size) == file.read_bytes()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(copy.descriptor, b"x", 0)
        with pytest.raises(OSError, match=r"Invalid argument|Bad file descriptor"):
            os.ftruncate(copy.descriptor, 1)
        assert os.fstat(copy.descriptor).st_nlink == 0


def test_what_is_small_beside_the_free_memory_lies_in_it(file):
    with PrivateCopy(file) as copy:
        assert copy.sealed


def test_tensors_outlive_the_copy(tmp_path):
    torch.save({"weight": torch.arange(5000.0)}, tmp_path / "model.pt")
    with PrivateCopy(tmp_path / "model.pt") as copy:
        state = read_checkpoint(copy)
    assert float(state["weight"].sum()) == 5000 * 4999 / 2


def test_reading_behind_the_end_is_refused(file):
    with PrivateCopy(file) as copy, pytest.raises(RefusedModelError, match="damaged: it ends before"):
        copy.read(copy.size - 1, 2)


def test_the_descriptor_is_closed(file):
    with PrivateCopy(file) as copy:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy.descriptor)


def test_a_file_beyond_the_limit_is_refused(file):
    before = open_descriptors()
    with pytest.raises(InputError, match="larger than 1000 bytes"):
        PrivateCopy(file, limit=1000)
    assert open_descriptors() == before


def test_what_is_no_file_is_refused_and_nothing_hangs(tmp_path):
    before = open_descriptors()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for name, says in (("pipe", "not a regular file"), ("empty", r"empty \(0 bytes\)"), ("none", "no such file")):
        with pytest.raises(InputError, match=says):
            PrivateCopy(tmp_path / name)
    with pytest.raises(InputError, match="not a regular file"):
        PrivateCopy(tmp_path)
    assert open_descriptors() == before


def test_a_file_without_an_end_is_not_copied_until_the_memory_is_full() -> None:
    """`/proc` has regular files that say they are empty and never end."""
    with pytest.raises(InputError, match="empty"):
        PrivateCopy(Path("/proc/self/pagemap"))


@pytest.mark.parametrize(("size", "then"), [(100, 300), (300, 100)])
def test_a_file_that_changes_its_size_meanwhile_is_refused(tmp_path, monkeypatch, size, then):
    path = tmp_path / "model"
    path.write_bytes(bytes(size))
    free = private.free_memory

    def change() -> int:
        os.truncate(path, then)
        return free()

    monkeypatch.setattr(private, "free_memory", change)  # which is asked between size and copying
    before = open_descriptors()
    with pytest.raises(InputError, match="changed its size"):
        PrivateCopy(path)
    assert open_descriptors() == before


def test_a_file_for_which_the_disk_has_no_room_is_refused_before_it_is_copied(tmp_path):
    path = tmp_path / "model"
    path.touch()
    os.truncate(path, 255 << 30)
    before = open_descriptors()
    with pytest.raises(InputError, match=r"has room for \d+; name another one with TMPDIR"):
        PrivateCopy(path, in_memory=0)
    assert open_descriptors() == before


@pytest.mark.parametrize("content", [b"x", bytes(range(256)) * 40_000])
def test_what_is_in_memory_already_becomes_a_copy_like_any_other(content):
    with PrivateCopy.of(content, Path("made")) as copy:
        assert copy.read(0, copy.size) == content
        assert (copy.size, copy.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        with pytest.raises(PermissionError):
            os.pwrite(copy.descriptor, b"x", 0)
