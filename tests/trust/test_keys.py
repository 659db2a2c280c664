"""Keys and passphrases: where they come from and what is refused."""

from __future__ import annotations

import os

import pytest

from hauberk.errors import InputError
from hauberk.trust import EncryptionKey, Passphrase, key_from_environment, key_from_file, passphrase_from_environment

HEXADECIMAL = "00" * 31 + "Ff"


def write_key(folder, text: str):
    path = folder / "some.key"
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("text", [HEXADECIMAL, HEXADECIMAL + "\n", f"  {HEXADECIMAL}\r\n"])
def test_a_key_file_is_hexadecimal_digits(tmp_path, text):
    assert key_from_file(write_key(tmp_path, text)).reveal() == bytes.fromhex(HEXADECIMAL)


@pytest.mark.parametrize(
    "text", ["", HEXADECIMAL[:-2], HEXADECIMAL + "00", "x" * 64, f"{HEXADECIMAL[:32]} {HEXADECIMAL[32:]}", "é" * 32]
)
def test_anything_else_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="expected 64 hexadecimal digits"):
        key_from_file(write_key(tmp_path, text))


def test_a_key_file_that_others_may_read_is_refused(tmp_path):
    path = write_key(tmp_path, HEXADECIMAL)
    path.chmod(0o640)
    with pytest.raises(InputError, match="mode 0640 lets others read it"):
        key_from_file(path)


def test_what_is_written_is_read_back(tmp_path):
    key = EncryptionKey.generate()
    assert key_from_file(write_key(tmp_path, key.to_text().decode())) == key


def test_a_key_from_the_environment(monkeypatch):
    monkeypatch.setenv("HAUBERK_TEST_KEY", HEXADECIMAL)
    assert key_from_environment("HAUBERK_TEST_KEY").reveal() == bytes.fromhex(HEXADECIMAL)


@pytest.mark.parametrize("read", [key_from_environment, passphrase_from_environment])
def test_a_variable_that_is_not_set_is_named(monkeypatch, read):
    monkeypatch.delenv("HAUBERK_TEST_KEY", raising=False)
    with pytest.raises(InputError, match="'HAUBERK_TEST_KEY' is not set"):
        read("HAUBERK_TEST_KEY")


def test_an_empty_passphrase_is_refused(monkeypatch):
    monkeypatch.setenv("HAUBERK_TEST_KEY", "")
    with pytest.raises(InputError, match="empty"):
        passphrase_from_environment("HAUBERK_TEST_KEY")


def test_a_passphrase_that_is_not_utf_8_is_taken_as_the_bytes_that_it_is(monkeypatch):
    monkeypatch.setitem(os.environb, b"HAUBERK_TEST_KEY", b"caf\xe9")
    assert passphrase_from_environment("HAUBERK_TEST_KEY") == Passphrase(b"caf\xe9")


def test_what_is_no_text_is_no_passphrase():
    with pytest.raises(InputError, match="no text") as caught:
        Passphrase("secret\ud800")
    assert caught.value.__context__ is None


def test_a_passphrase_is_the_same_however_it_is_typed():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert Passphrase(composed) == Passphrase(decomposed)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(size):
    with pytest.raises(InputError, match=f"expected 32 bytes, got {size}"):
        EncryptionKey(bytes(size))


def test_identifiers_tell_keys_apart():
    first, second = EncryptionKey(bytes(32)), EncryptionKey(bytes(31) + b"\x01")
    assert first.identifier == EncryptionKey(bytes(32)).identifier
    assert first.identifier != second.identifier
    assert len(first.identifier) == 16
