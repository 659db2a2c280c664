"""Tar archives and compressed streams: each lie by its rule, and what is safe is what Python's readers see."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import random
import tarfile
import zlib

import pytest
from corpus import hostile_tars
from corpus.examined import examined, rules_of
from corpus.hostile_tars import header, member
from corpus.hostile_zips import EVIL, GOOD

from hauberk.scan.archives import streams
from hauberk.scan.archives.tar import Tar
from hauberk.scan.archives.tar_rules import TAR_RULES
from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination, ScanLimits
from hauberk.scan.formats import recognise
from hauberk.scan.report import Verdict

END = bytes(1024)
RULE_OF = {
    "tar-path-up": "path", "tar-path-absolute": "path", "tar-path-up-by-pax": "path",
    "tar-path-up-by-long-name": "path", "tar-link-outside": "link-outside", "tar-link-absolute": "link-outside",
    "tar-hard-link-outside": "link-outside", "tar-link-inside": "link", "tar-device": "special",
    "tar-pipe": "special", "tar-duplicate": "duplicate", "tar-alike": "names-alike",
    "tar-size-twice": "contradiction", "tar-size-no-number": "contradiction", "tar-size-negative": "contradiction",
    "tar-size-underscore": "contradiction", "tar-size-for-all": "contradiction", "tar-link-with-size": "contradiction",
    "tar-long-name-longer-than-its-size": "contradiction", "tar-extended-header-of-nothing": "damaged",
    "tar-behind-a-name": "name", "tar-file-or-folder": "contradiction",
    "tar-cut": "damaged", "tar-no-end": "damaged", "tar-one-zero-block": "damaged",
    "tar-second-header-broken": "damaged", "tar-behind-the-end": "trailing", "tar-sparse": "unfollowed",
    "tar-unknown-kind": "unfollowed", "tar-name-no-utf8": "name", "tar-empty": "empty",
}  # fmt: skip


@pytest.mark.parametrize(("name", "rule"), RULE_OF.items())
def test_each_lie_is_found_by_its_rule(name, rule):
    build = next(build for case, build, *_ in hostile_tars._TARS if case == name)
    assert f"tar-{rule}" in rules_of(build())


def test_every_rule_has_a_case():
    elsewhere = {"tar-many-members", "torch-legacy-tar"}
    assert {f"tar-{rule}" for rule in RULE_OF.values()} | elsewhere == {rule.id for rule in TAR_RULES}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes_is_read_alike(form):
    buffer = io.BytesIO()
    names = ["a", "folder/b", "n" * 90, "p" * 60 + "/" + "q" * 60]
    if form != tarfile.USTAR_FORMAT:
        names += ["\u00e9" * 80, "r" * 300, "s/" * 120 + "t"]
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for index, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size = index * 300
            tar.addfile(entry, io.BytesIO(bytes([index]) * entry.size))
    examination = Examination()
    found = Tar(BytesContent(buffer.getvalue()), examination)
    assert examination.findings == ()
    assert {name: content.read(0, content.size) for name, content in found.members.items()} == {
        name: bytes([index]) * (index * 300) for index, name in enumerate(names)
    }


def test_a_size_too_large_for_octal_digits():
    """GNU's form, and pax's, where the header then says nothing."""
    size = 0o77777777777 + 1
    data = header("a", b"\x80" + size.to_bytes(11, "big"))
    assert "of 8589934592 bytes is cut" in examined(data + END).findings[0].what
    record = f"19 size={size}\n".encode()
    assert len(record) == 19
    data = member("pax", record, kind=b"x") + header("a", 0)
    assert "of 8589934592 bytes is cut" in examined(data + END).findings[0].what


def test_the_checksum_decides_and_not_the_magic_bytes():
    block = bytearray(member("a", GOOD) + END)
    block[257:265] = bytes(8)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    assert recognise(BytesContent(bytes(block))).name == "tar"
    block[148:156] = b"000000\0 "
    other = recognise(BytesContent(bytes(block)))
    assert other is None or other.name != "tar"


def test_too_many_members():
    data = b"".join(member(str(number), b"") for number in range(9)) + END
    assert "tar-many-members" in {finding.rule for finding in examined(data, ScanLimits(members=5)).findings}


def honest() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("one.pkl", "x" * 120, "two.pkl"):
            entry = tarfile.TarInfo(name)
            entry.size = len(GOOD)
            tar.addfile(entry, io.BytesIO(GOOD))
    return buffer.getvalue()


def test_what_is_safe_python_reads_alike():
    """A thousand mutations of headers, checksums made right again: none has two readings."""
    chooser, data, safe = random.Random(5), honest(), 0
    headers = [at for at in range(0, 6 * 1024, 512) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(1000):
        changed = bytearray(data)
        at = chooser.choice(headers)
        for _ in range(chooser.randint(1, 3)):
            place = chooser.choice([*range(10), *range(100, 160), *range(257, 270), *range(345, 350), 513, 520])
            changed[at + place] = chooser.choice(b"\0 /.0157xgLKS\xff\x80a")
        changed[at + 148 : at + 156] = b" " * 8
        changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
        examination = examined(bytes(changed))
        if examination.verdict is not Verdict.SAFE:
            continue
        safe += 1
        ours = Tar(BytesContent(bytes(changed)), Examination()).members
        with tarfile.open(fileobj=io.BytesIO(bytes(changed))) as tar:
            theirs = {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers() if entry.isfile()}
        assert theirs == {name: content.read(0, content.size) for name, content in ours.items()}
    assert safe > 20


STREAMS = {
    "gzip": lambda data: gzip.compress(data, mtime=0), "bzip2": bz2.compress, "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE), "zlib": zlib.compress,
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_what_it_unpacks_to(name):
    for inner, verdict in ((GOOD, Verdict.SAFE), (EVIL, Verdict.UNSAFE)):
        packed = STREAMS[name](inner)
        assert recognise(BytesContent(packed)).name == name
        assert examined(packed).verdict is verdict


@pytest.mark.parametrize("name", STREAMS)
def test_a_large_stream_is_not_kept(name, monkeypatch):
    """Unpacked a second time as far as its format reads."""
    monkeypatch.setattr(streams, "_KEPT", 1000)
    data = pickle.dumps([random.Random(1).randbytes(90_000)] * 1 + list(range(2000)), 2)
    assert examined(STREAMS[name](data)).verdict is Verdict.SAFE


@pytest.mark.parametrize("name", STREAMS)
def test_a_bomb_is_stopped(name, monkeypatch):
    monkeypatch.setattr(streams, "_BOMB_SIZE", 1 << 20)
    examination = examined(STREAMS[name](bytes(3 << 20)))
    assert [finding.rule for finding in examination.findings] == ["stream-bomb"]
    assert examination._shared.unpacked < 2 << 20


def test_a_stream_beyond_the_limit_is_unknown():
    examination = examined(gzip.compress(random.Random(1).randbytes(100_000)), ScanLimits(unpacked=50_000))
    assert [finding.rule for finding in examination.findings] == ["scan-too-much"]


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_stream_is_unknown(name):
    packed = STREAMS[name](GOOD * 50)
    verdicts = {examined(packed[:length]).verdict for length in range(16, len(packed), 7)}
    assert verdicts == {Verdict.UNKNOWN}


def test_two_bytes_are_not_enough_for_zlib():
    """Numbers may begin as a stream does; only what unpacks is one."""
    content = BytesContent(b"\x78\x9c" + bytes(range(200, 256)))
    assert recognise(content) is None or recognise(content).name != "zlib"
