"""The keys of one bundle: what is derived from the user's key or passphrase, and which of them is the right one."""

from __future__ import annotations

import hmac
import os

from hauberk.bundle.manifest import Direct, Encryption
from hauberk.errors import TrustError
from hauberk.trust import EncryptionKey, Passphrase
from hauberk.trust.derivation import Stretching, fresh_stretching, stretch

_SALT = 32


def new_encryption(key: EncryptionKey | Passphrase) -> tuple[Encryption, EncryptionKey]:
    """Parameters for a new bundle, with a fresh salt, and the key that its members are encrypted with."""
    derivation = fresh_stretching() if isinstance(key, Passphrase) else Direct()
    salt = os.urandom(_SALT)
    master = _master(key, derivation)
    return Encryption("AES-256-GCM-STREAM", salt, _commitment(master, salt), derivation), _bundle_key(master, salt)


def bundle_key(encryption: Encryption, key: EncryptionKey | Passphrase) -> EncryptionKey:
    """The key that a bundle's members are encrypted with.

    Raises:
        TrustError: The key is not the one that the bundle was sealed with, or a passphrase where a key is needed or
            the other way round, or the derivation asks for too much.
    """
    master = _master(key, encryption.derivation)
    if not hmac.compare_digest(_commitment(master, encryption.salt), encryption.commitment):
        kind = "passphrase" if isinstance(key, Passphrase) else "key"
        raise TrustError(f"wrong {kind}: this is not the one that the bundle was sealed with")
    return _bundle_key(master, encryption.salt)


def member_purpose(name: str) -> bytes:
    """What ties an encrypted member to its place in the bundle."""
    return b"hauberk bundle member " + name.encode()


def _master(key: EncryptionKey | Passphrase, derivation: Direct | Stretching) -> EncryptionKey:
    if isinstance(derivation, Direct):
        if isinstance(key, Passphrase):
            raise TrustError("this bundle was sealed with a key, not with a passphrase; give the key")
        return key
    if not isinstance(key, Passphrase):
        raise TrustError("this bundle was sealed with a passphrase, not with a key; give the passphrase")
    return EncryptionKey(stretch(key, derivation).reveal())


def _commitment(master: EncryptionKey, salt: bytes) -> bytes:
    return master.subkey(salt=salt, purpose=b"hauberk bundle commitment").reveal()


def _bundle_key(master: EncryptionKey, salt: bytes) -> EncryptionKey:
    return master.subkey(salt=salt, purpose=b"hauberk bundle key")
