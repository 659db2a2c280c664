"""How much memory is free, also in a container whose limit is below what the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from hauberk.ingest.room import free_memory

MEBIBYTE = 1 << 20
STAT = "total_inactive_file {0}\ninactive_file {0}\nanon 1\n"


def made(folder: Path, *, limit: str, used: int, read_once: int = 0, first: bool = False) -> None:
    """The files of a group."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("memory.limit_in_bytes" if first else "memory.max").write_text(f"{limit}\n")
    folder.joinpath("memory.usage_in_bytes" if first else "memory.current").write_text(f"{used}\n")
    folder.joinpath("memory.stat").write_text(STAT.format(read_once))


@pytest.fixture
def own(tmp_path):
    def write(*lines: str) -> Path:
        file = tmp_path / "own"
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    return write


def test_without_a_limit_it_is_the_machine_s(tmp_path, own):
    made(tmp_path / "a", limit="max", used=5)
    assert free_memory(own("0::/a"), tmp_path) > 64 * MEBIBYTE
    assert free_memory(tmp_path / "missing", tmp_path) > 64 * MEBIBYTE


def test_files_that_were_read_once_count_as_free(tmp_path, own):
    made(tmp_path / "a", limit=str(8 * MEBIBYTE), used=5 * MEBIBYTE, read_once=2 * MEBIBYTE)
    assert free_memory(own("0::/a"), tmp_path) == 5 * MEBIBYTE


def test_the_tightest_group_above_decides(tmp_path, own):
    made(tmp_path / "a", limit=str(2 * MEBIBYTE), used=MEBIBYTE)
    made(tmp_path / "a" / "b", limit=str(8 * MEBIBYTE), used=0)
    assert free_memory(own("0::/a/b"), tmp_path) == MEBIBYTE


def test_a_container_s_own_group_is_the_top(tmp_path, own):
    """With the first version, its name is the one outside, and inside there is no such folder."""
    made(tmp_path / "memory", limit=str(3 * MEBIBYTE), used=MEBIBYTE, first=True)
    lines = own("5:cpu,cpuacct:/docker/0a1b", "4:memory:/docker/0a1b", "0::/docker/0a1b")
    assert free_memory(lines, tmp_path) == 2 * MEBIBYTE


def test_more_than_the_limit_is_nothing_free(tmp_path, own):
    made(tmp_path, limit=str(MEBIBYTE), used=2 * MEBIBYTE)
    assert free_memory(own("0::/"), tmp_path) == 0
