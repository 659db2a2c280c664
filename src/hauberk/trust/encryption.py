"""Authenticated encryption of any amount of data: AES-256-GCM in chunks, in the STREAM construction.

STREAM is that of Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance" (CRYPTO 2015). The nonce of a chunk is `prefix (7 bytes) | number (4 bytes, big-endian) | last (1)`,
so that chunks cannot be reordered, dropped, doubled or cut off unnoticed. Every message has a key of its own, derived
from the caller's key, a random salt and the purpose; header and purpose are authenticated with every chunk. The layout
is in `docs/reference/bundle-format.md`.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hauberk.errors import TrustError
from hauberk.trust.keys import EncryptionKey

CHUNK = 1 << 16
"""Clear bytes in every chunk but the last."""

_MAGIC = b"hauberk\x01"
_SALT = 32
_PREFIX = 7
_TAG = 16
_HEADER = len(_MAGIC) + _SALT + _PREFIX
_MOST_CHUNKS = 1 << 32


def seal(data: bytes | memoryview, key: EncryptionKey, *, purpose: bytes) -> bytes:
    """Encrypt and authenticate.

    Args:
        data: Clear bytes, any length up to 2**48.
        key: The caller's key; never used on data directly.
        purpose: What the data is for; `unseal` must be told the same.

    Returns:
        Header (47 bytes), then each chunk's ciphertext followed by its 16-byte tag.
    """
    view = memoryview(data).cast("B")
    header = _MAGIC + os.urandom(_SALT + _PREFIX)
    cipher, associated = _cipher(header, key, purpose)
    count = _chunks(len(view), CHUNK)
    pieces = [header]
    for number in range(count):
        piece = view[number * CHUNK : (number + 1) * CHUNK]
        pieces.append(cipher.encrypt(_nonce(header, number, last=number == count - 1), piece, associated))
    return b"".join(pieces)


def unseal(sealed: bytes | memoryview, key: EncryptionKey, *, purpose: bytes) -> bytes:
    """Decrypt what `seal` made; nothing is returned unless all of it is authentic.

    Raises:
        TrustError: Another key or purpose, or a changed, missing, added or moved byte.
    """
    view = memoryview(sealed).cast("B")
    header, body = bytes(view[:_HEADER]), view[_HEADER:]
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise TrustError("sealed data: this is not in the format that this version reads")
    step = CHUNK + _TAG
    count = _chunks(len(body), step)
    if count > _MOST_CHUNKS or len(body) - (count - 1) * step < _TAG + (count > 1):
        raise TrustError("sealed data: cut off or extended")
    cipher, associated = _cipher(header, key, purpose)
    pieces = []
    try:
        for number in range(count):
            nonce = _nonce(header, number, last=number == count - 1)
            pieces.append(cipher.decrypt(nonce, body[number * step : (number + 1) * step], associated))
    except InvalidTag:
        raise TrustError("sealed data: the key is wrong, or bytes were changed") from None
    return b"".join(pieces)


def _chunks(size: int, step: int) -> int:
    """Nothing is still one chunk, the last."""
    return max(1, -(-size // step))


def _cipher(header: bytes, key: EncryptionKey, purpose: bytes) -> tuple[AESGCM, bytes]:
    """The cipher under the message's own key, and the data that is authenticated with every chunk."""
    salt = header[len(_MAGIC) : len(_MAGIC) + _SALT]
    return AESGCM(key.subkey(salt=salt, purpose=b"hauberk sealed data\x00" + purpose).reveal()), header + purpose


def _nonce(header: bytes, number: int, *, last: bool) -> bytes:
    return header[-_PREFIX:] + number.to_bytes(4, "big") + bytes([last])
