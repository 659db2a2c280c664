"""Encryption keys and passphrases, and where they come from: a file or an environment variable, never an argument."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from hauberk.errors import InputError
from hauberk.files import read_bounded
from hauberk.trust.derivation import expand
from hauberk.trust.secret import Secret

KEY_BYTES = 32
"""Length of an encryption key: 256 bits."""

_FILE_LIMIT = 4096


class EncryptionKey(Secret):
    """A 256-bit key that bundles are encrypted with.

    Args:
        value: 32 bytes, uniformly random.

    Raises:
        InputError: Not 32 bytes.
    """

    __slots__ = ()

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        del value  # an error must not carry it along
        if len(self._value) != KEY_BYTES:
            raise InputError(f"encryption key: expected {KEY_BYTES} bytes, got {len(self._value)}")

    @classmethod
    def generate(cls) -> EncryptionKey:
        """A fresh key from the operating system's generator."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def identifier(self) -> str:
        """16 hexadecimal digits that tell keys apart and say nothing about the key (HKDF-SHA256)."""
        return expand(self, salt=b"", purpose=b"hauberk key identifier").reveal().hex()[:16]

    def subkey(self, *, salt: bytes, purpose: bytes) -> EncryptionKey:
        """A key for one purpose only, derived by HKDF-SHA256 (RFC 5869)."""
        return EncryptionKey(expand(self, salt=salt, purpose=purpose).reveal())

    def to_text(self) -> bytes:
        """What a key file holds: 64 hexadecimal digits and a line feed."""
        return self._value.hex().encode() + b"\n"


class Passphrase(Secret):
    """A passphrase, normalised to Unicode NFC and encoded as UTF-8, so that every keyboard types the same bytes.

    Raises:
        InputError: It is empty, or no text.
    """

    __slots__ = ()

    def __init__(self, text: str | bytes) -> None:
        super().__init__(text if isinstance(text, bytes) else _encode(text))
        del text  # an error must not carry it along
        if not self._value:
            raise InputError("passphrase: it is empty; give one of several words")


def key_from_file(path: Path) -> EncryptionKey:
    """Read a key file: 64 hexadecimal digits, as `hauberk keys new` and `openssl rand -hex 32` write them.

    Raises:
        InputError: The file is missing, is readable by anyone but its owner, or holds something else.
    """
    key = _parse(read_bounded(path, _FILE_LIMIT, private=True))
    if key is None:
        raise InputError(f"{path}: not a key file; expected 64 hexadecimal digits, as 'hauberk keys new' writes them")
    return key


def key_from_environment(name: str) -> EncryptionKey:
    """Read a key, 64 hexadecimal digits, from an environment variable.

    Raises:
        InputError: The variable is not set or holds something else.
    """
    _require(name)
    key = _parse(os.environb[os.fsencode(name)])
    if key is None:
        raise InputError(f"environment variable {name}: expected 64 hexadecimal digits")
    return key


def passphrase_from_environment(name: str) -> Passphrase:
    """Read a passphrase from an environment variable.

    Raises:
        InputError: The variable is not set or empty.
    """
    _require(name)
    return Passphrase(os.environ[name])


def _encode(text: str) -> bytes:
    try:
        # Bytes of the environment that are no UTF-8 arrive as surrogates and leave as the bytes that they were.
        return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        pass  # raised outside, because the error holds the whole text
    del text
    raise InputError("passphrase: it holds characters that are no text")


def _require(name: str) -> None:
    if not name or name not in os.environ:
        raise InputError(f"environment variable {name!r} is not set")


def _parse(text: bytes) -> EncryptionKey | None:
    """The key in `text`, or None: whoever reports a failure must not have the text among its local variables."""
    if len(text.split()) != 1 or len(text.strip()) != 2 * KEY_BYTES:
        return None
    try:
        return EncryptionKey(bytes.fromhex(text.decode("ascii")))
    except ValueError:
        return None
