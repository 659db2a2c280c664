"""Writing is all or nothing, by effect: full disks, unwritable folders, races."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from hauberk.errors import ContractError, InputError
from hauberk.files import draft, open_below, read_bounded, write_atomically, write_folder, write_once


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_all_bytes_and_leaves_nothing_else(tmp_path):
    write_atomically(tmp_path / "a", b"\x00\x01" * 100_000)
    assert (tmp_path / "a").read_bytes() == b"\x00\x01" * 100_000
    assert entries(tmp_path) == ["a"]


def test_replaces_what_was_there(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_the_mode_is_exact_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_atomically(tmp_path / "a", b"secret", mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_without_a_mode_the_umask_decides(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("kind", ["folder", "device"])
def test_what_is_not_a_file_is_left_alone(tmp_path, kind):
    path = tmp_path if kind == "folder" else Path("/dev/null")
    with pytest.raises(InputError, match="not a regular file"):
        write_atomically(path, b"x")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not exist"):
        write_atomically(tmp_path / "nowhere" / "a", b"x")


FULL = """
import resource, signal, sys
from pathlib import Path
from hauberk.errors import ContractError, InputError
from hauberk.files import draft, write_atomically, write_folder, write_once
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    {call}
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "call",
    [
        "write_atomically(Path(sys.argv[1]), bytes(1 << 20))",
        "write_once(Path(sys.argv[1] + 'new'), bytes(1 << 20), mode=0o600)",
        "write_folder(Path(sys.argv[1] + 'new'), {'b': bytes(1 << 20)})",
    ],
)
def test_where_no_more_can_be_written_the_old_file_stays(tmp_path, call):
    """The kernel refuses bytes beyond 64 KiB: the write breaks in the middle, as on a disk that fills up."""
    (tmp_path / "a").write_bytes(b"old")
    code = FULL.format(call=call)
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True, check=True)
    assert "no space left" in done.stdout
    assert (tmp_path / "a").read_bytes() == b"old"
    assert entries(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", tmp_path], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    try:
        write_atomically(tmp_path / "a", b"old")
        with pytest.raises(InputError, match="no space left"):
            write_atomically(tmp_path / "a", bytes(1 << 20))
        assert (tmp_path / "a").read_bytes() == b"old"
        assert entries(tmp_path) == ["a"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def as_an_ordinary_user(path: Path) -> str:
    """What writing a file says to someone who is not root: root may write everywhere."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom hauberk.files import write_atomically\n"
        "from hauberk.errors import InputError\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "try: write_atomically(Path(sys.argv[1]), b'x')\nexcept InputError as error: print(error)\n"
    )
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_an_unwritable_folder_is_one_clear_error(mode):
    """Outside pytest's own folders, which nobody else may enter."""
    with tempfile.TemporaryDirectory() as outside:
        Path(outside).chmod(0o755)
        folder = Path(outside, "folder")
        folder.mkdir()
        folder.chmod(mode)
        assert "is not writable; choose another" in as_an_ordinary_user(folder / "a")
        folder.chmod(0o755)
        assert entries(folder) == []


def test_write_once_never_replaces(tmp_path):
    assert write_once(tmp_path / "a", b"first", mode=0o600)
    assert not write_once(tmp_path / "a", b"second", mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert entries(tmp_path) == ["a"]


def test_of_many_that_write_once_exactly_one_wins(tmp_path):
    won = []

    def attempt(number: int) -> None:
        if write_once(tmp_path / "a", str(number).encode(), mode=0o600):
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [int((tmp_path / "a").read_bytes())] == won


def test_reads_up_to_the_limit_and_not_beyond(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(InputError, match="longer than 4 bytes"):
        read_bounded(tmp_path / "a", 4)


def test_reads_an_empty_file(tmp_path):
    (tmp_path / "a").touch()
    assert read_bounded(tmp_path / "a", 0) == b""


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_would_never_end_is_not_read(tmp_path, make):
    make(tmp_path / "a")
    with pytest.raises(InputError, match="not a regular file"):
        read_bounded(tmp_path / "a", 10)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: cannot read: no such file"):
        read_bounded(tmp_path / "nowhere", 10)


def test_a_folder_is_written_whole(tmp_path):
    write_folder(tmp_path / "out", {"a": b"1", "deep/b": memoryview(b"2")})
    assert (tmp_path / "out/a").read_bytes() == b"1"
    assert (tmp_path / "out/deep/b").read_bytes() == b"2"
    assert entries(tmp_path) == ["out"]


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", {"a": b"1"})
    assert entries(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("there", ["folder", "file"])
def test_what_is_there_is_never_mixed_with_a_new_folder(tmp_path, there):
    if there == "folder":
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").touch()
    else:
        (tmp_path / "out").touch()
    with pytest.raises(InputError, match="something is there already"):
        write_folder(tmp_path / "out", {"a": b"1"})
    assert entries(tmp_path) == ["out"]
    assert not (tmp_path / "out/a").exists()


def test_a_private_file_must_be_private(tmp_path):
    (tmp_path / "a").write_bytes(b"secret")
    for mode in (0o640, 0o604, 0o660, 0o644):
        (tmp_path / "a").chmod(mode)
        with pytest.raises(InputError, match=f"mode {mode:04o} lets others read it; run 'chmod 600"):
            read_bounded(tmp_path / "a", 10, private=True)
    (tmp_path / "a").chmod(0o400)
    assert read_bounded(tmp_path / "a", 10, private=True) == b"secret"


def test_a_draft_takes_its_name_when_all_went_well(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with draft(path) as unproven:
        write_atomically(unproven, b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert entries(tmp_path) == ["out"]


def fail_with_a_draft(path: Path) -> None:
    with draft(path) as unproven:
        write_atomically(unproven, b"new")
        raise ContractError("it answers something else")


def test_a_draft_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(ContractError):
        fail_with_a_draft(path)
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == ["out"]


def below(folder: Path, location: str) -> bytes:
    descriptor, status = open_below(folder, location)
    try:
        content = os.read(descriptor, 100)
    finally:
        os.close(descriptor)
    assert len(content) == status.st_size
    return content


def test_a_file_below_a_folder_is_opened(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "inner")
    assert below(tmp_path, "inner/file") == b"content"
    assert below(tmp_path / "link", "file") == b"content"  # the folder itself is the caller's own


@pytest.mark.parametrize(
    "location",
    [
        "link", "links/file", "inner/link", "inner/../secret", "../secret", "..", ".", "", "/etc/passwd", "inner//file",
        "inner", "pipe", "missing", "inner/file/", "inner/file/x", "a\0b", "x" * 300,
    ],
)  # fmt: skip
def test_nothing_else_below_it_is(tmp_path, location):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_bytes(b"content")
    (folder / "inner" / "link").symlink_to("file")
    (folder / "links").symlink_to("inner")
    (folder / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(folder / "pipe")
    before = entries(Path("/proc/self/fd"))
    with pytest.raises((OSError, ValueError)):
        open_below(folder, location)
    assert entries(Path("/proc/self/fd")) == before


def test_a_folder_on_the_way_that_becomes_a_link_leads_nowhere(tmp_path):
    """Swapped all the time, as somebody would who waits for the moment between looking and opening."""
    folder = tmp_path / "folder"
    for place, content in ((folder / "inner", b"content"), (tmp_path / "outer", b"secret")):
        place.mkdir(parents=True)
        (place / "file").write_bytes(content)
    (folder / "link").symlink_to(tmp_path / "outer")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (folder / "inner").rename(folder / "aside")
            (folder / "link").rename(folder / "inner")
            (folder / "inner").rename(folder / "link")
            (folder / "aside").rename(folder / "inner")

    swapping = threading.Thread(target=swap)
    swapping.start()
    found = set()
    try:
        for _ in range(3000):
            try:
                found.add(below(folder, "inner/file"))
            except OSError as error:
                found.add(type(error).__name__.encode())
    finally:
        stop.set()
        swapping.join()
    assert b"content" in found
    assert b"secret" not in found
