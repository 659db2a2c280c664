"""What is converted, and what nothing but the scan has looked at when it is refused."""

from __future__ import annotations

import shutil
import struct
import zipfile

import pytest
import safetensors.torch
import torch

from hauberk.convert import convert
from hauberk.errors import RefusedModelError


def directory(count: int) -> bytes:
    """A zip archive of one member, which its directory lists many times."""
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0x21, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 0, 0, 0x21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    size = count * len(entry)
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, len(local))
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(local) + size, 1)
    tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return local + count * entry + end + locator + tail


def test_what_the_scan_does_not_admit_is_not_opened_by_anything_else(tmp_path, monkeypatch):
    (tmp_path / "in.zip").write_bytes(directory(120_000))
    opened = []
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_, **__: opened.append("in.zip"))
    with pytest.raises(RefusedModelError, match="zip-many-members"):
        convert(tmp_path / "in.zip", tmp_path / "out.onnx")
    assert not opened


def test_what_a_file_is_does_not_depend_on_its_name(tmp_path):
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "in.onnx")
    assert convert(tmp_path / "in.onnx", tmp_path / "out.safetensors").source.format == "safetensors"
    (tmp_path / "text.onnx").write_text("a text about a model\n")
    with pytest.raises(RefusedModelError, match="no model that is converted: text"):
        convert(tmp_path / "text.onnx", tmp_path / "out.onnx")


def test_a_saved_model_is_read_without_links(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    (folder / "variables" / "variables.data-00000-of-00001").symlink_to(tmp_path / "secret")
    with pytest.raises(RefusedModelError, match="data-00000-of-00001 is a link"):
        convert(folder, tmp_path / "out.onnx")


def test_a_folder_that_becomes_a_link_after_it_was_listed_is_not_followed(tmp_path, monkeypatch):
    """What lies elsewhere would come out as weights."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data").write_bytes(b"secret")
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "data").write_bytes(b"numbers")
    (folder / "saved_model.pb").write_bytes(b"")
    list_all = type(folder).rglob

    def swapped(path, pattern):
        found = sorted(list_all(path, pattern))
        shutil.rmtree(folder / "variables")
        (folder / "variables").symlink_to(tmp_path / "elsewhere")
        return (each for each in found if each.name != "saved_model.pb")

    monkeypatch.setattr(type(folder), "rglob", swapped)
    with pytest.raises(RefusedModelError, match="variables/data is a link"):
        convert(folder, tmp_path / "out.onnx")
