"""The container: readable with any zip tool, and refused in every other form than the one that is written."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import warnings
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauberk.bundle.container import MEMBER_LIMIT, is_member_name, pack, unpack
from hauberk.errors import BundleError, InputError

MEMBERS = {
    "manifest.json": b"{}",
    "model.enc": bytes(range(256)),
    "evidence/full.enc": b"",
    "a": b"PK\x05\x06" + bytes(18),
}

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}(/[A-Za-z0-9][A-Za-z0-9._-]{0,8})?", fullmatch=True)
contents = st.dictionaries(names, st.binary(max_size=60), max_size=6)


@given(contents)
def test_unpacking_is_the_inverse_of_packing(members):
    found = unpack(pack(members))
    assert list(found) == list(members)
    assert {name: bytes(content) for name, content in found.items()} == members


@given(contents)
def test_the_reference_implementation_reads_it(members):
    with zipfile.ZipFile(io.BytesIO(pack(members))) as archive:
        assert archive.testzip() is None
        assert {entry.filename: archive.read(entry) for entry in archive.infolist()} == members
        for entry in archive.infolist():
            assert (entry.compress_type, entry.external_attr >> 16, entry.date_time[:3]) == (0, 0o100644, (1980, 1, 1))


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs the unzip command")
def test_unzip_extracts_it(tmp_path):
    (tmp_path / "x.hbk").write_bytes(pack(MEMBERS))
    subprocess.run(["unzip", "-q", "x.hbk", "-d", "out"], cwd=tmp_path, capture_output=True, check=True)
    for name, content in MEMBERS.items():
        assert (tmp_path / "out" / name).read_bytes() == content


def test_every_changed_byte_of_the_framing_is_noticed():
    data = bytearray(pack(MEMBERS))
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            with pytest.raises(BundleError):
                unpack(bytes(data))
            data[position] ^= 1 << bit


def test_every_truncation_extension_and_insertion_is_noticed():
    data = pack(MEMBERS)
    for position in range(len(data)):
        with pytest.raises(BundleError):
            unpack(data[:position])
        with pytest.raises(BundleError):
            unpack(data[position + 1 :])
        with pytest.raises(BundleError):
            unpack(data[:position] + b"\x00" + data[position:])
    with pytest.raises(BundleError):
        unpack(data + b"\x00")
    with pytest.raises(BundleError):
        unpack(data + data)


def rebuilt(**changes) -> bytes:
    """What Python's `zipfile` makes of the same members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", changes.pop("compression", zipfile.ZIP_STORED)) as archive:
        for name, content in MEMBERS.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr, entry.create_version = 3, 0o100644 << 16, 20
            for field, value in changes.items():
                setattr(entry, field, value)
            archive.writestr(entry, content)
    return buffer.getvalue()


def test_python_can_write_the_canonical_form():
    """So that what the next test changes is the only difference."""
    assert rebuilt() == pack(MEMBERS)


@pytest.mark.parametrize(
    "change",
    [
        {"date_time": (2026, 1, 1, 0, 0, 0)},
        {"comment": b"x"},
        {"extra": b"\x01\x00\x00\x00"},
        {"external_attr": 0o100755 << 16},
        {"internal_attr": 1},
        {"create_version": 45},
        {"create_system": 0},
        {"compress_type": zipfile.ZIP_DEFLATED},
    ],
)
def test_every_other_way_to_write_the_same_members_is_refused(change):
    with pytest.raises(BundleError):
        unpack(rebuilt(**change))


def test_a_doubled_member_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings(action="ignore"):
        for content in (b"first", b"second"):
            entry = zipfile.ZipInfo("model.enc")
            entry.create_system, entry.external_attr, entry.create_version = 3, 0o100644 << 16, 20
            archive.writestr(entry, content)
    with pytest.raises(BundleError, match=r"model\.enc is there twice"):
        unpack(buffer.getvalue())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        ".hidden",
        "a/.b",
        "-a",
        "a b",
        "a\\b",
        "a\x00",
        "é",
        "C:",
        "x" * 121,
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(name):
    assert not is_member_name(name)
    with pytest.raises(InputError):
        pack({name: b""})
    text = name.encode()
    data = pack({"x" * max(1, min(len(text), 120)): b""})
    if len(text) in range(1, 121):
        with pytest.raises(BundleError, match="not admitted"):
            unpack(data.replace(b"x" * len(text), text))


def test_too_many_members_are_refused():
    members = {f"m{number}": b"" for number in range(MEMBER_LIMIT + 1)}
    with pytest.raises(InputError):
        pack(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    with pytest.raises(BundleError):
        unpack(buffer.getvalue())


def test_absurd_sizes_and_places_are_refused_at_once():
    data = bytearray(pack(MEMBERS))
    end = len(data) - 22
    directory = struct.unpack_from("<I", data, end + 16)[0]
    for position in (end + 16, end + 12, directory + 20, directory + 24, directory + 42):
        changed = bytearray(data)
        struct.pack_into("<I", changed, position, 0xFFFFFFFF)
        with pytest.raises(BundleError):
            unpack(bytes(changed))


@given(st.binary(max_size=400))
def test_whatever_the_bytes_the_answer_is_an_error_of_ours(data):
    for text in (data, data + b"PK\x05\x06" + data[:18].ljust(18, b"\x00")):
        with pytest.raises(BundleError):
            unpack(text + b"x")


@given(st.data())
def test_whatever_is_written_over_it_is_noticed(data):
    original = pack(MEMBERS)
    start = data.draw(st.integers(0, len(original) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=12))
    changed = original[:start] + patch + original[start + data.draw(st.integers(0, 12)) :]
    if changed != original:
        with pytest.raises(BundleError):
            unpack(changed)
