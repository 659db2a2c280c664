"""Default keys: made once, private, the same for everyone who asks at once, and never replaced."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hauberk.errors import InputError
from hauberk.trust import configuration_folder, default_encryption_key, default_keys, default_policy, defaults
from hauberk.trust.signing import SigningKey


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A configuration folder that does not exist yet."""
    folder = tmp_path / "some" / "home"
    monkeypatch.setenv("HAUBERK_HOME", str(folder))
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_made_once_and_the_caller_is_told(home):
    first, second = default_keys(), default_keys()
    assert [path.name for path in first.created] == ["encryption.key", "signing.pem", "signing.pub"]
    assert second.created == ()
    assert first.encryption == second.encryption
    assert first.signing.public_key == second.signing.public_key


def test_they_are_private_from_the_start(home):
    default_keys()
    assert mode(home) == 0o700
    assert {path.name: mode(path) for path in home.iterdir()} == {
        "encryption.key": 0o600,
        "signing.pem": 0o600,
        "signing.pub": 0o644,
    }


def test_they_are_what_is_used_and_trusted_where_nothing_else_is_said(home):
    keys = default_keys()
    assert default_encryption_key() == keys.encryption
    assert default_policy().signers == (keys.signing.public_key,)
    assert keys.policy == default_policy()


@pytest.mark.parametrize(
    ("read", "option"), [(default_encryption_key, "--key FILE"), (default_policy, "--trust PUBKEY")]
)
def test_reading_never_makes_keys(home, read, option):
    with pytest.raises(InputError, match=f"give {option} or make keys with 'hauberk keys new'"):
        read()
    assert not home.exists()


def test_many_processes_at_once_end_up_with_the_same_keys(home):
    code = (
        "import sys; from hauberk.trust import default_keys; sys.stdin.read(1)\n"
        "keys = default_keys()\n"
        "print(keys.encryption.identifier, keys.signing.public_key.fingerprint, len(keys.created))"
    )
    words = [sys.executable, "-c", code]
    processes = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [process.communicate("x")[0].split() for process in processes]
    assert len({tuple(answer[:2]) for answer in answers}) == 1
    assert sum(int(answer[2]) for answer in answers) == 3
    assert len(list(home.iterdir())) == 3


def test_where_the_folder_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HAUBERK_HOME", "/one")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/two")
    monkeypatch.setenv("HOME", "/three")
    assert configuration_folder() == Path("/one")
    monkeypatch.delenv("HAUBERK_HOME")
    assert configuration_folder() == Path("/two/hauberk")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert configuration_folder() == Path("/three/.config/hauberk")


def test_a_folder_that_others_may_write_is_refused(home):
    default_keys()
    home.chmod(0o777)
    for read in (default_keys, default_policy, default_encryption_key):
        with pytest.raises(InputError, match="mode 0777 lets others replace the keys"):
            read()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away needs root")
def test_a_folder_of_another_user_is_refused(home):
    default_keys()
    os.chown(home, 65534, 65534)
    for read in (default_keys, default_policy, default_encryption_key):
        with pytest.raises(InputError, match="belongs to another user"):
            read()


def test_a_public_key_that_others_may_write_is_refused(home):
    default_keys()
    home.chmod(0o755)  # others may look, and reach the file by its name
    (home / "signing.pub").chmod(0o666)
    for read in (default_keys, default_policy):
        with pytest.raises(InputError, match=r"signing\.pub: mode 0666 lets others replace the keys"):
            read()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_a_key_that_another_user_planted_is_refused(home):
    """As when the folder was open once: its owner can still change the file."""
    default_keys()
    os.chown(home / "signing.pub", 65534, 65534)
    for read in (default_keys, default_policy):
        with pytest.raises(InputError, match=r"signing\.pub: it belongs to another user"):
            read()
    os.chown(home / "encryption.key", 65534, 65534)
    with pytest.raises(InputError, match=r"encryption\.key: it belongs to another user"):
        default_encryption_key()


def test_a_link_to_the_folder_is_followed_once(home, tmp_path, monkeypatch):
    """Whoever owns the link cannot point it at a folder of theirs between the check and the reading."""
    ours, link = default_keys(), tmp_path / "link"
    theirs = default_keys(tmp_path / "theirs")
    link.symlink_to(home)
    monkeypatch.setenv("HAUBERK_HOME", str(link))
    check = defaults._refuse_open

    def check_and_swap(path):
        check(path)
        link.unlink(missing_ok=True)
        link.symlink_to(theirs.folder)

    monkeypatch.setattr(defaults, "_refuse_open", check_and_swap)
    assert default_policy() == ours.policy


def test_a_key_that_others_may_read_is_refused(home):
    default_keys()
    (home / "signing.pem").chmod(0o644)
    with pytest.raises(InputError, match=r"signing\.pem: mode 0644 lets others read it"):
        default_keys()


def test_halves_that_do_not_match_are_refused(home):
    default_keys()
    (home / "signing.pub").write_bytes(SigningKey.generate().public_key.pem)
    with pytest.raises(InputError, match="not the public half"):
        default_keys()


def test_a_lost_public_half_is_made_again(home):
    before = default_keys()
    (home / "signing.pub").unlink()
    after = default_keys()
    assert [path.name for path in after.created] == ["signing.pub"]
    assert after.signing.public_key == before.signing.public_key


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(InputError, match="cannot make a folder for keys"):
        default_keys()
