"""Two formats in one file are found, and what only looks like it is left alone."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib

import h5py
import numpy as np
import pytest
import torch
from corpus.examined import examined
from corpus.hostile_safetensors import tensors
from corpus.hostile_tars import member
from corpus.hostile_zips import EVIL, GOOD
from corpus.zip_files import Entry, archive

from hauberk.scan.overlays import RULES
from hauberk.scan.report import Verdict

IDS = {rule.id for rule in RULES}


def found(data: bytes) -> set[str]:
    return {finding.rule for finding in examined(data).findings} & IDS


HOSTS = {
    "safetensors": tensors(a=("U8", [8], [0, 8])),
    "pickle": GOOD,
    "text that begins like an archive": b"PK is short for Phil Katz.\n",
    "stream": gzip.compress(GOOD, mtime=0),
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    "behind", [b"", b"\0" * 30, b"some notes"], ids=["nothing behind", "zeros behind", "text behind"]
)
def test_an_archive_at_the_end_is_found_whatever_stands_in_front(host, behind):
    data = HOSTS[host] + archive([Entry("a.pkl", EVIL)]) + behind
    assert found(data) == {"scan-polyglot"}


def test_a_large_archive_at_the_end_is_found():
    data = HOSTS["pickle"] + archive([Entry("a", EVIL)], end={"size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}, end64={})
    assert found(data) == {"scan-polyglot"}


@pytest.mark.parametrize(("filler", "behind"), [(64, 100), (0, 65_600), (64, 3)])
def test_an_archive_whose_end_points_to_its_directory_is_found(filler, behind):
    """Torch's reader goes where the record points to, and needs neither directory nor end of file beside it."""
    before = bytes(200)
    packed = archive([Entry("m/version", b"3\n"), Entry("m/data.pkl", EVIL)], before=before)
    numbers = packed[200:-22] + bytes(filler) + packed[-22:] + b"\1" * behind
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(numbers), len(numbers))
    whole = struct.pack("<Q", 192) + header.ljust(192) + numbers
    assert found(whole) == {"scan-polyglot"}
    if behind < 65_536 - 22:
        assert "data.pkl" in torch._C.PyTorchFileReader(io.BytesIO(whole)).get_all_records()


def test_an_hdf5_file_in_a_zip_archive_is_found_but_as_a_member():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        file["secret"] = [1, 2, 3]
    inner = buffer.getvalue()[512:]
    inside = struct.pack("<Q", 64) + b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}'.ljust(64)
    for first, second, rules in (
        (b"[" + b" " * (512 - 32 - 31 - 1) + b"]", inner, set()),
        (
            b"[" + b" " * (512 - 32 - 31 - 73) + b"]",
            (inside % (len(inner), len(inner)))[:72] + inner,
            {"scan-polyglot"},
        ),
    ):
        data = archive([Entry("a", first), Entry("b", second)])
        assert data.index(b"\x89HDF") == 512
        with h5py.File(io.BytesIO(data)) as file:
            assert list(file) == ["secret"]
        assert found(data) == rules


def test_a_comment_does_not_hide_it():
    """The last signature of an end is none; the one before is."""
    comment = b"PK\x05\x06" + b"x" * 40
    assert found(HOSTS["pickle"] + archive([Entry("a", EVIL)], comment=comment)) == {"scan-polyglot"}


def test_the_signature_alone_is_no_archive():
    assert found(pickle.dumps([b"PK\x05\x06" + b"\x01" * 40], 2)) == set()


def test_an_archive_in_a_tar_archive_is_its_member():
    data = member("model.zip", archive([Entry("a", GOOD)])) + bytes(1024)
    assert examined(data).verdict is Verdict.SAFE


@pytest.mark.parametrize(
    "text",
    [b"cats\ndogs\nand more\n", b"import os\nimport sys\n", b"(c) 2026 somebody\nall rights\n", b"clearly\nso\nR.\n"],
)
def test_a_text_is_not_accused_of_being_a_pickle(text):
    assert found(text) == set()


def test_a_name_of_a_tar_archive_may_not_be_a_pickle():
    """The header of a tar archive begins with a name, which an unpickler would run."""
    block = bytearray(member("x", GOOD) + bytes(1024))
    code = b"cos\nsystem\n(S'true'\ntR."
    block[: len(code)] = code
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    assert "scan-polyglot-pickle" in found(bytes(block))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def test_a_pickle_behind_an_array_of_joblib_is_found_inside_a_tar_archive():
    """joblib steps over the array, where an unpickler that knows nothing of it breaks off."""
    number = name("numpy", "dtype") + text("u1") + b"\x89\x88\x87R"
    number += b"(K\x03" + text("|") + b"NNN" + 2 * (b"J" + struct.pack("<i", -1)) + b"K\x00tb"
    wrapper = (
        name("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}(" + text("subclass") + name("numpy", "ndarray")
    )
    wrapper += text("shape") + b"K\x04\x85" + text("order") + text("C") + text("dtype") + number
    wrapper += text("allow_mmap") + b"\x89" + text("numpy_array_alignment_bytes") + b"K\x10ub"
    hostile = b"(" + wrapper + b"\x01\xffabcd" + name("builtins", "exec") + text("pass") + b"\x85R."
    stream = io.BytesIO()
    np.save(stream, np.frombuffer(hostile, np.uint8))
    whole = member("Vabc", stream.getvalue()) + bytes(1024)
    assert found(whole) == {"scan-polyglot-pickle"}
    assert examined(whole).verdict is Verdict.UNSAFE
    harmless = member("Vabc", stream.getvalue().replace(b"exec", b"dict")) + bytes(1024)
    assert "exec" not in str(examined(harmless).findings)


def test_the_oldest_form_of_joblib_is_not_opened():
    examination = examined(b"ZF0x19              " + zlib.compress(GOOD))
    assert (examination.verdict, examination.format) == (Verdict.UNKNOWN, "joblib-zfile")


@pytest.mark.parametrize("host", ["safetensors", "stream"])
def test_what_begins_as_itself_is_itself(host):
    assert found(HOSTS[host]) == set()


@pytest.mark.parametrize("whole", [archive([Entry("a", GOOD)], end64={}), member("a", GOOD) + bytes(1024)])
def test_no_prefix_of_an_archive_breaks_the_scan_or_is_safe(whole):
    for length in range(5, len(whole)):
        examination = examined(whole[:length])
        rules = {finding.rule for finding in examination.findings}
        assert "scan-failed" not in rules, length
        assert examination.verdict is not Verdict.SAFE, length
