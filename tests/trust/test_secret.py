"""Secrets stay hidden wherever Python shows values."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback

import pytest

from hauberk.errors import HauberkError
from hauberk.trust import (
    EncryptionKey,
    Passphrase,
    Secret,
    SigningKey,
    key_from_environment,
    key_from_file,
    seal,
    signing_key_from_file,
    unseal,
)

KEY = bytes(range(1, 33))


def forms(secret: bytes) -> list[str]:
    """Ways in which bytes may turn up in text."""
    return [secret.hex(), secret.hex().upper(), repr(secret)[2:-1], secret.decode("latin-1")]


def assert_hidden(text: str, secret: bytes) -> None:
    for form in forms(secret):
        assert form not in text


@pytest.mark.parametrize("secret", [Secret(KEY), EncryptionKey(KEY), Passphrase(KEY)])
def test_no_representation_shows_the_bytes(secret):
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{[secret]}",
        f"{ {'key': secret} }",
    ):
        assert_hidden(shown, KEY)


def test_a_signing_key_hides_its_pem():
    key = SigningKey.generate()
    assert "PRIVATE" not in repr(key)
    assert repr(key) == "SigningKey(hidden)"


def test_a_log_line_does_not_show_the_bytes(caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("opened with %s and %r", EncryptionKey(KEY), EncryptionKey(KEY))
    assert_hidden(caplog.text, KEY)


def test_secrets_are_not_pickled_or_copied_by_accident():
    for attempt in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="is secret and is not pickled"):
            attempt(EncryptionKey(KEY))


def test_equality_is_by_value_and_kind():
    assert EncryptionKey(KEY) == EncryptionKey(KEY)
    assert EncryptionKey(KEY) != EncryptionKey(KEY[::-1])
    assert EncryptionKey(KEY) != Passphrase(KEY)
    with pytest.raises(TypeError):
        hash(EncryptionKey(KEY))


def _a_wrong_purpose():
    unseal(seal(b"data", EncryptionKey(KEY), purpose=b"a"), EncryptionKey(KEY), purpose=b"b")


def _a_key_cut_short(folder):
    path = folder / "cut.key"
    path.write_text(KEY.hex()[:-1])
    path.chmod(0o600)
    key_from_file(path)


def _a_damaged_private_key(folder):
    path = folder / "damaged.pem"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n" + KEY.hex().encode() + b"\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    signing_key_from_file(path)


def _a_variable_cut_short(monkeypatch):
    monkeypatch.setenv("HAUBERK_TEST_KEY", KEY.hex()[:-1])
    key_from_environment("HAUBERK_TEST_KEY")


@pytest.mark.parametrize("failure", ["purpose", "file", "private", "environment"])
def test_a_traceback_with_local_variables_does_not_show_the_bytes(failure, tmp_path, monkeypatch):
    """As printed by tools that show the variables of every frame."""
    attempts = {
        "purpose": _a_wrong_purpose,
        "file": lambda: _a_key_cut_short(tmp_path),
        "private": lambda: _a_damaged_private_key(tmp_path),
        "environment": lambda: _a_variable_cut_short(monkeypatch),
    }
    with pytest.raises(HauberkError) as caught:
        attempts[failure]()
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    for frame in frames.stack:
        if "/tests/" in frame.filename:
            frame.locals = None
    text = "".join(frames.format())
    for part in (KEY.hex()[:32], *forms(KEY)):
        assert part not in text


def test_a_refused_private_key_is_not_among_the_variables_of_the_error():
    with pytest.raises(HauberkError) as caught:
        SigningKey(b"-----BEGIN PRIVATE KEY-----\n" + KEY.hex().encode())
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY.hex() not in "".join(str(frame.locals) for frame in frames.stack if "/tests/" not in frame.filename)


def test_a_frame_of_the_derivation_never_holds_the_bytes():
    """Every function of the way from key to cipher is stopped at each line and its variables are searched."""
    import sys

    key, seen = EncryptionKey(KEY), []

    def watch(frame, event, argument):
        if "hauberk" in frame.f_code.co_filename and "secret.py" not in frame.f_code.co_filename:
            seen.extend(repr(value) for value in frame.f_locals.values())
            return watch
        return None

    sealed = seal(b"data", key, purpose=b"a")
    sys.settrace(watch)
    try:
        unseal(sealed, key, purpose=b"a")
    finally:
        sys.settrace(None)
    assert len(seen) > 20
    for shown in seen:
        assert_hidden(shown, KEY)
