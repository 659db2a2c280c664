"""The zip reader: each lie is found by its own rule, and what is called safe has one reading only."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib

import pytest
import torch
from corpus import hostile_zips
from corpus.hostile_zips import GOOD
from corpus.zip_files import DEFLATED, DESCRIPTOR, UTF8, Entry, archive
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.scan.archives.names import alike, are_plain, is_ambiguous, leaves_folder
from hauberk.scan.archives.zip import Zip, open_zip
from hauberk.scan.archives.zip_rules import ZIP_RULES
from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination, ScanLimits, StopScan
from hauberk.scan.report import Verdict

RULE_OF = {
    "local-name-differs-only": "contradiction", "local-flags-differ": "contradiction",
    "local-method-differs": "contradiction", "local-size-differs": "contradiction",
    "local-compressed-size-differs": "contradiction", "local-checksum-differs": "contradiction",
    "name-in-two-forms-in-front": "name", "encrypted-in-front": "encrypted",
    "extra-field-cut-in-front": "contradiction", "large-figures-in-front-differ": "contradiction",
    "large-figures-behind-a-small-member": "gap", "local-header-missing": "contradiction",
    "figures-behind-differ": "contradiction",
    "figures-behind-missing": "contradiction", "checksum-wrong": "checksum", "checksum-wrong-deflated": "checksum",
    "flag-reserved": "flags", "flag-patched": "flags", "version-of-the-future": "flags", "encrypted": "encrypted",
    "encrypted-strongly": "encrypted", "encrypted-aes": "encrypted", "method-deflate64": "method",
    "method-lzma": "method", "method-zstandard": "method", "duplicate-of-same-bytes": "duplicate",
    "alike-by-case": "names-alike", "alike-by-composition": "names-alike", "alike-by-empty-parts": "names-alike",
    "alike-by-dot": "names-alike",
    "alike-by-space": "names-alike", "folder-with-hidden-bytes": "contradiction",
    "hidden-between": "hidden-member", "hidden-before-the-directory": "hidden-member",
    "hidden-at-the-front": "hidden-member", "gap": "gap", "overlap-inside": "overlap", "overlap-same-header": "overlap",
    "overlap-directory": "overlap", "junk-before": "surrounded", "junk-behind": "surrounded",
    "archive-behind-archive": "surrounded", "second-end-in-comment": "hidden-member",
    "comment-with-signature": "comment", "comment-of-bytes": "comment", "comment-too-short": "contradiction",
    "large-end-elsewhere": "contradiction", "large-end-differs": "contradiction",
    "large-end-of-another-length": "contradiction", "large-size-missing": "contradiction",
    "large-figures-of-another-count": "contradiction", "large-figures-twice": "contradiction",
    "extra-field-cut": "contradiction", "several-disks": "disks", "member-on-another-disk": "disks", "path-up": "path",
    "path-up-inside": "path", "path-absolute": "path", "path-drive": "path", "path-backslashes": "path",
    "name-backslash": "name", "name-zero-byte": "contradiction", "name-control-characters": "name",
    "name-right-to-left": "name", "name-empty": "name", "name-of-no-encoding": "name", "name-no-utf8": "name",
    "name-in-two-forms": "name", "link": "link", "device": "link", "file-marked-as-folder": "contradiction",
    "folder-with-bytes": "contradiction",
    "bomb": "bomb", "size-impossible": "contradiction", "size-too-small": "contradiction",
    "size-too-large": "contradiction", "stored-in-two-sizes": "contradiction",
    "bytes-behind-deflated": "contradiction", "deflated-cut": "contradiction", "deflated-damaged": "contradiction",
    "count-too-small": "contradiction", "count-too-large": "contradiction", "directory-elsewhere": "surrounded",
    "directory-too-long": "damaged", "directory-cut": "damaged", "directory-missing": "damaged",
}  # fmt: skip
"""The rule that must speak, of cases that are wrong in one way."""


def examined(data: bytes, limits: ScanLimits | None = None) -> tuple[Zip | None, Examination]:
    """The archive, as far as it can be read, with every member read to its end."""
    examination = Examination(limits)
    try:
        found = open_zip(BytesContent(data), examination)
    except StopScan:
        return None, examination
    for name, member in found.members.items():
        if member.readable:
            try:
                found.check(name)
            except StopScan:
                continue
    return found, examination


def rules_of(data: bytes) -> set[str]:
    return {finding.rule for finding in examined(data)[1].findings}


@pytest.mark.parametrize(("name", "rule"), RULE_OF.items())
def test_each_lie_is_found_by_its_rule(name, rule):
    build = next(build for case, build, *_ in hostile_zips._ZIPS if case == name)
    assert f"zip-{rule}" in rules_of(build())


def test_every_rule_has_a_case():
    many = {"zip-many-members"}  # tested below, with a limit
    assert {f"zip-{rule}" for rule in RULE_OF.values()} == {rule.id for rule in ZIP_RULES} - many


def written(method: int, *, stream: bool = False, comment: bytes = b"", large: bool = False) -> bytes:
    """What Python's own writer makes."""
    buffer = io.BytesIO()
    target = _Unseekable(buffer) if stream else buffer
    with zipfile.ZipFile(target, "w", method) as file:
        file.comment = comment
        file.writestr("folder/", b"")
        file.writestr("folder/numbers.bin", bytes(range(256)) * 300)
        with file.open("\u00fcml\u00e4ut.txt", "w", force_zip64=large) as member:
            member.write(b"text " * 1000)
        file.writestr("empty", b"")
    return buffer.getvalue()


class _Unseekable(io.RawIOBase):
    """A pipe: figures of members go behind them."""

    def __init__(self, target: io.BytesIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        return self._target.write(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_what_others_write_is_read_as_others_read_it(method, stream, large):
    data = written(method, stream=stream, comment=b"of 21 November", large=large)
    found, examination = examined(data)
    assert examination.findings == ()
    with zipfile.ZipFile(io.BytesIO(data)) as other:
        assert {name: read(found, name) for name in found.members} == {
            entry.filename: other.read(entry) for entry in other.infolist() if not entry.is_dir()
        }


def read(found: Zip, name: str) -> bytes:
    content = found.content(name)
    return content.read(0, content.size)


def test_members_and_their_places():
    found, _ = examined(archive([Entry("a", b"12345"), Entry("b", GOOD, DEFLATED)]))
    assert list(found.members) == ["a", "b"]
    assert found.members["a"][:4] == ("a", 5, 5, 0)
    assert found.members["a"].offset == 31
    assert found.members["b"].method == DEFLATED
    assert found.members["b"].crc == zlib.crc32(GOOD)


def test_unpacking_reads_anywhere_like_bytes():
    data = bytes(random.Random(1).choices(range(256), k=3_000_000))
    found, examination = examined(archive([Entry("a", data, DEFLATED)]))
    content = found.content("a")
    chooser = random.Random(2)
    for _ in range(60):
        start = chooser.randrange(len(data))
        length = min(chooser.choice([0, 1, 100, 70_000, 700_000]), len(data) - start)
        assert content.read(start, length) == data[start : start + length]
    assert examination.verdict is Verdict.SAFE


def test_unpacking_holds_little(monkeypatch):
    """However much a member unpacks to, what is kept is a window and the first mebibyte."""
    content = examined(archive([Entry("a", bytes(40 << 20), DEFLATED)]))[0].content("a")
    content.read(content.size - 10, 10)
    kept = sum(len(value) for value in vars(content).values() if isinstance(value, bytes | bytearray))
    assert kept < 3 << 20


def test_only_the_last_member_is_kept():
    found, _ = examined(archive([Entry(str(number), bytes(1000), DEFLATED) for number in range(50)]))
    for name in found.members:
        assert found.content(name) is found.content(name)
    kept = [value for value in vars(found).values() if isinstance(value, tuple)]
    assert [name for name, _ in kept] == ["49"]


def test_what_is_unpacked_counts():
    limits = ScanLimits(unpacked=1 << 18)
    _, examination = examined(archive([Entry("a", random.Random(1).randbytes(1 << 19), DEFLATED)]), limits)
    assert [finding.rule for finding in examination.findings] == ["scan-too-much"]


def test_a_member_counts_nothing_until_it_is_read():
    examination = Examination(ScanLimits(unpacked=10))
    open_zip(BytesContent(archive([Entry("a", bytes(1000), DEFLATED)])), examination)
    assert examination.findings == ()


def test_a_bomb_is_told_by_its_figures_alone():
    data = archive([Entry("a", bytes(5_000_000), DEFLATED)])
    examination = Examination(ScanLimits(unpacked=1_000_000))
    open_zip(BytesContent(data), examination)
    assert [finding.rule for finding in examination.findings] == ["zip-bomb"]


def test_too_many_members_are_not_read():
    data = archive([Entry(str(number)) for number in range(50)])
    _, examination = examined(data, ScanLimits(members=49))
    assert [finding.rule for finding in examination.findings] == ["zip-many-members"]
    assert examined(data, ScanLimits(members=50))[1].findings == ()


def test_a_count_that_lies_does_not_let_more_members_in():
    data = archive([Entry(str(number)) for number in range(50)], end={"here": 1, "count": 1})
    assert "zip-many-members" in {finding.rule for finding in examined(data, ScanLimits(members=9))[1].findings}


def test_a_folder_is_no_member_and_still_has_a_name():
    found, examination = examined(archive([Entry("a/"), Entry("../b/")]))
    assert not found.members
    assert [finding.rule for finding in examination.findings] == ["zip-path"]


def test_figures_behind_a_member_may_have_any_of_four_forms():
    crc, size = zlib.crc32(GOOD), len(GOOD)
    small = [struct.pack("<4sLLL", b"PK\x07\x08", crc, size, size), struct.pack("<LLL", crc, size, size)]
    large = [struct.pack("<4sLQQ", b"PK\x07\x08", crc, size, size), struct.pack("<LQQ", crc, size, size)]
    in_front = struct.pack("<HHQQ", 1, 16, 0, 0)
    for form, extra, rules in (
        *((form, b"", set()) for form in small),
        *((form, in_front, set()) for form in large),
        *((form, b"", {"zip-gap"}) for form in large),
    ):
        local = {"crc": 0, "compressed": 0, "size": 0, "extra": extra}
        entry = Entry("a", GOOD, flags=DESCRIPTOR, local=local, descriptor=form)
        assert rules_of(archive([entry, Entry("b", GOOD)])) == rules, (form, extra)


def test_what_python_writes_without_going_back_is_read():
    """Figures behind each member, of both lengths."""

    class Forward(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    for large in (False, True):
        stream = Forward()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
            for name in ("a", "b"):
                with file.open(name, "w", force_zip64=large) as member:
                    member.write(GOOD)
        assert rules_of(stream.getvalue()) == set(), large


def saved() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def rewritten() -> bytes:
    """The same members in another writer's form: deflated, with extra fields, names with letters of others."""
    with zipfile.ZipFile(io.BytesIO(saved())) as file:
        members = {entry.filename: file.read(entry) for entry in file.infolist()}
    entries = [Entry(name, data, DEFLATED if "data.pkl" in name else 0) for name, data in members.items()]
    return archive([*entries, Entry("archive/\u00fc", b"text", flags=UTF8)], end64={})


SEEDS = (saved(), rewritten(), written(zipfile.ZIP_DEFLATED, stream=True), written(zipfile.ZIP_STORED))
INTERESTING = (0, 1, 2, 4, 8, 0x20, 0x40, 0x7F, 0x80, 0xFE, 0xFF)


def structure_of(data: bytes) -> list[int]:
    """Places of all bytes of headers, with a few of the names and extra fields behind them."""
    places: set[int] = set()
    for signature, length in ((b"PK\x03\x04", 60), (b"PK\x01\x02", 76), (b"PK\x05\x06", 22), (b"PK\x06\x06", 76)):
        at = data.find(signature)
        while at >= 0:
            places.update(range(at, min(at + length, len(data))))
            at = data.find(signature, at + 1)
    return sorted(places)


PLACES = tuple(structure_of(seed) for seed in SEEDS)
changes = st.lists(
    st.tuples(
        st.sampled_from(["set", "swap", "insert", "remove", "copy"]),
        st.integers(0, 1 << 20),
        st.one_of(st.sampled_from(INTERESTING), st.integers(0, 255)),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=4,
)


def mutated(which: int, todo: list[tuple[str, int, int, int]]) -> bytes:
    data = bytearray(SEEDS[which])
    for kind, place, value, length in todo:
        at = PLACES[which][place % len(PLACES[which])] % max(1, len(data))
        match kind:
            case "set":
                data[at] = value
            case "swap":
                data[at : at + 2] = data[at : at + 2][::-1]
            case "insert":
                data[at:at] = bytes([value]) * length
            case "remove":
                del data[at : at + length]
            case "copy":
                data += data[at:]
        if not data:
            return b"\0"
    return bytes(data)


def torch_sees(data: bytes, root: str) -> dict[str, bytes]:
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    return {f"{root}/{name}": reader.get_record(name) for name in reader.get_all_records()}


def python_sees(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert len(file.namelist()) == len(set(file.namelist()))
        return {entry.filename: file.read(entry) for entry in file.infolist() if not entry.is_dir()}


@settings(max_examples=1000, deadline=None)
@given(which=st.integers(0, len(SEEDS) - 1), todo=changes)
def test_what_is_safe_is_the_same_to_every_reader(which, todo):
    data = mutated(which, todo)
    found, examination = examined(data)
    if found is None or examination.verdict is not Verdict.SAFE:
        return
    ours = {name: read(found, name) for name in found.members}
    assert python_sees(data) == ours
    roots = {name.partition("/")[0] for name in ours}
    if which < 2 and len(roots) == 1 and "" not in roots and _has_version(ours, root := roots.pop()):
        assert torch_sees(data, root) == ours


def _has_version(members: dict[str, bytes], root: str) -> bool:
    """Torch's reader takes no archive without a version that it knows."""
    return members.get(f"{root}/version", b"") in {b"3\n", b"3"}


def test_the_mutations_leave_some_safe_and_some_not():
    """Were all of them refused, the test above would show nothing."""
    chooser = random.Random(3)
    verdicts = []
    for _ in range(300):
        todo = [("set", chooser.randrange(1 << 20), chooser.choice(INTERESTING), 1)]
        verdicts.append(examined(mutated(chooser.randrange(2), todo))[1].verdict)
    assert verdicts.count(Verdict.SAFE) > 20
    assert verdicts.count(Verdict.UNSAFE) > 100


@pytest.mark.parametrize("which", [0, 1])
def test_torch_sees_what_we_see(which):
    found, _ = examined(SEEDS[which])
    ours = {name: read(found, name) for name in found.members}
    assert torch_sees(SEEDS[which], "archive") == ours
    reader = torch._C.PyTorchFileReader(io.BytesIO(SEEDS[which]))
    for name, member in found.members.items():
        assert reader.get_record_offset(name.removeprefix("archive/")) == member.offset


PLAIN = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Z"]), max_size=6)


@settings(max_examples=1000, deadline=None)
@given(names=st.lists(st.one_of(PLAIN, st.sampled_from(["a", "b/c", "b/C", "./a", "a.", "x/ y", "a|b"])), max_size=5))
def test_the_quick_look_at_names_says_no_more_than_the_long_one(names):
    if are_plain(names):
        assert alike(set(names)) == []
        assert not any(leaves_folder(name) or is_ambiguous(name) for name in names)
