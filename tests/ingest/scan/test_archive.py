"""The archive scan: accepts what torch.save writes, and nothing that two readers could read differently."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile

import pytest
import torch

from hauberk.errors import RefusedModelError
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.scan import scan_archive


def saved(state=None) -> dict[str, bytes]:
    """The members that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state or {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of doubled names, which is the point
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def scan(tmp_path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with PrivateCopy(path) as copy:
        scan_archive(copy)


def refusal(tmp_path, content: bytes) -> str:
    with pytest.raises(RefusedModelError) as raised:
        scan(tmp_path, content)
    return str(raised.value)


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.ones(3)},
        {"a": torch.ones(3), "shared": torch.ones(4, 4)[1:3, 1:]},
        {"scalar": torch.tensor(1.5), "empty": torch.zeros(0)},
        torch.nn.Sequential(torch.nn.Linear(3, 300), torch.nn.BatchNorm1d(300)).state_dict(),
    ],
)
def test_what_torch_saves_is_accepted(tmp_path, state):
    torch.save(state, tmp_path / "model.pt")
    scan(tmp_path, (tmp_path / "model.pt").read_bytes())


def test_a_file_of_another_zip_writer_is_accepted_where_it_has_the_same_form(tmp_path):
    scan(tmp_path, zipped(list(saved().items())))


def renamed(old: str, new: str) -> list[tuple[str, bytes]]:
    return [(name.replace(old, new), content) for name, content in saved().items()]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (
            [*saved().items(), ("archive/data.pkl", b"N.")],
            "member 'archive/data.pkl', which torch.save never writes|twice",
        ),
        ([*saved().items(), ("archive/DATA.PKL", b"N.")], "'archive/DATA.PKL', which torch.save never writes"),
        ([*saved().items(), ("/etc/passwd", b"")], "which torch.save never writes"),
        ([("manifest.json", b"{}"), ("model.enc", b"")], "a Hauberk bundle, it seems; give the model"),
        ([*saved().items(), ("archive/data/../../x", b"")], "which torch.save never writes"),
        ([*saved().items(), ("archive/data/01234567890", b"")], "which torch.save never writes"),
        ([*saved().items(), ("archive/code/__torch__.py", b"")], "TorchScript|which torch.save never writes"),
        (renamed("data.pkl", "other.pkl"), "which torch.save never writes"),
        ([(name, content) for name, content in saved().items() if not name.endswith("data.pkl")], "without data.pkl"),
        ([], "without data.pkl"),
        (
            [(name, content) for name, content in saved().items() if not name.endswith("data/1")],
            "storage '1' is not there",
        ),
    ],
)
def test_an_unusual_archive_is_refused(tmp_path, members, says):
    assert any(part in refusal(tmp_path, zipped(members)) for part in says.split("|"))


def test_a_doubled_member_is_refused(tmp_path):
    name = next(name for name in saved() if name.endswith("data.pkl"))
    assert "occurs twice" in refusal(tmp_path, zipped([*saved().items(), (name, b"N.")]))


def test_torchscript_is_refused_because_it_holds_code(tmp_path):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    assert "TorchScript archive, which holds code" in refusal(tmp_path, buffer.getvalue())


def test_a_compressed_member_is_refused(tmp_path):
    assert "compressed or encrypted" in refusal(tmp_path, zipped(list(saved().items()), zipfile.ZIP_DEFLATED))


def test_a_storage_shorter_than_the_pickle_claims_is_refused(tmp_path):
    """Mapped loading takes the pickle's word and would read what lies behind the storage."""
    members = [(name, content[:4] if name.endswith("data/0") else content) for name, content in saved().items()]
    assert "storage '0' is not there, or shorter than claimed" in refusal(tmp_path, zipped(members))


def test_a_pickle_that_asks_for_more_is_refused_by_name(tmp_path):
    members = [(n, b"\x80\x02cos\nsystem\n." if n.endswith("data.pkl") else c) for n, c in saved().items()]
    assert "asks for os.system" in refusal(tmp_path, zipped(members))


def test_a_huge_pickle_is_refused(tmp_path):
    members = [(n, bytes((16 << 20) + 1) if n.endswith("data.pkl") else c) for n, c in saved().items()]
    assert "which no state dict needs" in refusal(tmp_path, zipped(members))


def test_a_cut_archive_is_refused(tmp_path):
    content = zipped(list(saved().items()))
    for length in (10, len(content) // 2, len(content) - 1):
        assert "damaged" in refusal(tmp_path, content[:length])


def test_an_archive_behind_another_is_refused(tmp_path):
    """Readers that begin at the front and readers that begin at the end would see different models."""
    evil = [(n, b"\x80\x02N." if n.endswith("data.pkl") else c) for n, c in saved().items()]
    assert "refused" in refusal(tmp_path, zipped(evil) + zipped(list(saved().items())))


def test_a_local_name_that_differs_from_the_directory_is_refused(tmp_path):
    content = zipped(list(saved().items()))
    assert "contradicts itself" in refusal(tmp_path, content.replace(b"data/0", b"data/9", 1))


def test_overlapping_members_are_refused(tmp_path):
    """The directory lets a second storage begin inside the first one's bytes."""
    inner = zipped([("archive/data/1", b"12345678")])
    header_and_data = inner[: inner.index(b"PK\x01\x02")]
    members = saved({"a": torch.ones(40)})
    name = next(name for name in members if name.endswith("data/0"))
    root = name.partition("/")[0].encode()
    header_and_data = header_and_data.replace(b"archive", root)
    members[name] = header_and_data.ljust(160, b"\0")
    content = zipped([*members.items(), (f"{root.decode()}/data/1", b"12345678")])
    last = content.rindex(b"PK\x01\x02")
    target = content.index(header_and_data)
    forged = content[: last + 42] + target.to_bytes(4, "little") + content[last + 46 :]
    assert "contradicts itself" in refusal(tmp_path, forged)


def directory(entries: int, *, comment: bytes = b"") -> bytes:
    """An archive that is little but a directory, of empty members of the shortest name."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, len(entry) * entries, 4, len(comment))
    return b"PK\x03\x04" + entry * entries + end + comment


def test_a_directory_that_would_exhaust_memory_is_refused_unread(tmp_path, monkeypatch):
    content = directory((16 << 20) // 47 + 1)
    monkeypatch.delattr(zipfile, "ZipFile")
    assert "a zip directory of 16777261 bytes" in refusal(tmp_path, content)


def test_the_large_form_of_a_directory_is_bounded_too(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    content = bytearray(buffer.getvalue())
    at = content.rindex(b"PK\x06\x06")  # torch.save always writes it
    content[at + 40 : at + 48] = struct.pack("<Q", 1 << 40)
    monkeypatch.delattr(zipfile, "ZipFile")
    assert "a zip directory of 1099511627776 bytes" in refusal(tmp_path, bytes(content))


def test_an_end_that_could_be_looked_for_in_two_places_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    content = bytearray(buffer.getvalue())
    at = content.rindex(b"PK\x06\x07")
    content[at + 8 : at + 16] = struct.pack("<Q", 4)
    assert "contradicts itself about where it ends" in refusal(tmp_path, bytes(content))


def test_a_comment_is_refused(tmp_path):
    members = zipped(list(saved().items()))
    assert "something follows it" in refusal(tmp_path, members[:-2] + b"\x01\x00x")


def test_the_digits_of_a_storage_are_those_of_ascii(tmp_path):
    assert "which torch.save never writes" in refusal(
        tmp_path, zipped([*saved().items(), ("archive/data/\u0663", b"")])
    )
