"""`hauberk keys`: made once, and only public parts are shown."""

from __future__ import annotations

import json

import pytest

from hauberk.cli import main
from hauberk.trust import key_from_file, public_key_from_file


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_new_makes_keys_and_shows_only_public_parts(home, capsys):
    assert main(["keys", "new"]) == 0
    shown = capsys.readouterr().out
    assert public_key_from_file(home / "signing.pub").fingerprint in shown
    assert key_from_file(home / "encryption.key").reveal().hex() not in shown
    for line in (home / "signing.pem").read_text().splitlines():
        assert line not in shown


def test_new_never_replaces_keys(home, capsys):
    assert main(["keys", "new"]) == 0
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    assert main(["keys", "new"]) == 2
    assert "is there already and was left as it is" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


def test_new_makes_keys_in_another_folder(home, tmp_path):
    assert main(["keys", "new", "--out", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "signing.pem").exists()
    assert not home.exists()


def test_show_makes_nothing(home, capsys):
    assert main(["keys", "show"]) == 2
    assert "there are no keys here" in capsys.readouterr().err
    assert not home.exists()


def test_show_as_json(home, capsys):
    assert main(["keys", "new"]) == 0
    capsys.readouterr()
    assert main(["keys", "show", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["fingerprint"] == public_key_from_file(home / "signing.pub").fingerprint
    assert document["created"] == []
    assert "PRIVATE" not in json.dumps(document)
