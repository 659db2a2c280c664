"""Keys from passphrases (Argon2id, scrypt) and keys from keys (HKDF)."""

from __future__ import annotations

import hashlib
import hmac
import os

import msgspec

from hauberk.errors import TrustError
from hauberk.trust.secret import Secret

MEMORY_LIMIT = 1 << 30
"""The most memory, in bytes, that opening something with a passphrase may take."""

_WORK_LIMIT = 1 << 33  # bytes of memory filled, all passes and lanes together: seconds, not hours
_SALT_BYTES = 16
_KEY_BYTES = 32


class Argon2id(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="argon2id", tag_field="kind"):
    """Argon2id (RFC 9106), version 0x13.

    Attributes:
        salt: 16 bytes.
        iterations: Passes over the memory.
        lanes: Degree of parallelism.
        memory: In KiB.
    """

    salt: bytes
    iterations: int
    lanes: int
    memory: int


class Scrypt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="scrypt", tag_field="kind"):
    """Scrypt (RFC 7914): `cost` is N, `block_size` is r, `lanes` is p. `salt` is 16 bytes."""

    salt: bytes
    cost: int
    block_size: int
    lanes: int


Stretching = Argon2id | Scrypt


def fresh_stretching() -> Stretching:
    """Parameters for a new passphrase: the second recommendation of RFC 9106 (64 MiB, 3 passes, 4 lanes).

    Where the OpenSSL behind `cryptography` lacks Argon2id, scrypt with N = 2**17, r = 8, p = 1 (128 MiB).
    """
    from cryptography.hazmat.backends.openssl import backend  # noqa: PLC0415 - only where a passphrase is used

    salt = os.urandom(_SALT_BYTES)
    if backend.argon2_supported():
        return Argon2id(salt=salt, iterations=3, lanes=4, memory=1 << 16)
    return Scrypt(salt=salt, cost=1 << 17, block_size=8, lanes=1)


def stretch(passphrase: Secret, parameters: Stretching) -> Secret:
    """Derive 32 bytes from a passphrase.

    Raises:
        TrustError: The parameters ask for more than `MEMORY_LIMIT` or minutes of work, or are not valid; nothing was
            computed then. Or this installation lacks Argon2id.
    """
    _check(parameters)
    if isinstance(parameters, Argon2id):
        return _argon2id(passphrase, parameters)
    return Secret(
        hashlib.scrypt(
            passphrase.reveal(),
            salt=parameters.salt,
            n=parameters.cost,
            r=parameters.block_size,
            p=parameters.lanes,
            # OpenSSL counts a little more than the 128·N·r bytes of RFC 7914.
            maxmem=MEMORY_LIMIT + (1 << 26),
            dklen=_KEY_BYTES,
        )
    )


def expand(key: Secret, *, salt: bytes, purpose: bytes) -> Secret:
    """HKDF-SHA256 (RFC 5869) of 32 bytes: one block of output is all that is ever needed here.

    Args:
        key: Input keying material.
        salt: Any length; an empty one stands for 32 zero bytes, as in the RFC.
        purpose: The `info` of the RFC.
    """
    pseudorandom = hmac.digest(salt or bytes(_KEY_BYTES), key.reveal(), "sha256")
    return Secret(hmac.digest(pseudorandom, purpose + b"\x01", "sha256"))


def _argon2id(passphrase: Secret, parameters: Argon2id) -> Secret:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - only where a passphrase is used
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id as Derivation  # noqa: PLC0415

    try:
        derivation = Derivation(
            salt=parameters.salt,
            length=_KEY_BYTES,
            iterations=parameters.iterations,
            lanes=parameters.lanes,
            memory_cost=parameters.memory,
        )
    except UnsupportedAlgorithm:
        raise TrustError("passphrase: this installation's OpenSSL has no Argon2id; use OpenSSL 3.2 or newer") from None
    return Secret(derivation.derive(passphrase.reveal()))


def _check(parameters: Stretching) -> None:
    if len(parameters.salt) != _SALT_BYTES:
        raise TrustError(f"passphrase: the salt must be {_SALT_BYTES} bytes, not {len(parameters.salt)}")
    if isinstance(parameters, Argon2id):
        memory, passes = parameters.memory * 1024, parameters.iterations
        valid = 1 <= parameters.lanes <= 64 and parameters.memory >= 8 * parameters.lanes and passes >= 1
    else:
        memory, passes = 128 * parameters.cost * parameters.block_size, parameters.lanes
        power_of_two = parameters.cost > 1 and parameters.cost & (parameters.cost - 1) == 0
        valid = power_of_two and 1 <= parameters.block_size <= 64 and 1 <= passes <= 64
    if not valid:
        raise TrustError("passphrase: the derivation's parameters are not valid")
    if memory > MEMORY_LIMIT or memory * passes > _WORK_LIMIT:
        raise TrustError(
            f"passphrase: the derivation asks for {memory >> 20} MiB and {passes} passes;"
            f" at most {MEMORY_LIMIT >> 20} MiB and {_WORK_LIMIT >> 30} GiB in all passes are admitted"
        )
