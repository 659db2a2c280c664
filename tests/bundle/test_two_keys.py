"""A file that opens to two different models under two keys: AES-GCM alone would let a signer make one.

The construction is that of Dodis, Grubbs, Ristenpart and Woodage, "Fast Message Franking" (CRYPTO 2018), section 3:
one block of the ciphertext is solved for, so that the tags under both keys are equal.
"""

from __future__ import annotations

import hashlib
import json
import os

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hauberk.bundle import decode_bundle
from hauberk.bundle.container import pack, unpack
from hauberk.bundle.manifest import MODEL
from hauberk.bundle.sealing import _bundle_key, member_purpose
from hauberk.errors import TrustError
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy, sign_files, unseal

BLOCK = 16


def multiply(a: int, b: int) -> int:
    """In the field of GCM (NIST SP 800-38D, section 6.3)."""
    product = 0
    for bit in range(127, -1, -1):
        if b >> bit & 1:
            product ^= a
        a = a >> 1 ^ (0xE1 << 120 if a & 1 else 0)
    return product


def power(a: int, exponent: int) -> int:
    result = 1 << 127  # the one of this field
    while exponent:
        if exponent & 1:
            result = multiply(result, a)
        a, exponent = multiply(a, a), exponent >> 1
    return result


def encrypt_block(key: bytes, block: bytes) -> int:
    return int.from_bytes(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block), "big")


def blocks(data: bytes) -> list[int]:
    padded = data + bytes(-len(data) % BLOCK)
    return [int.from_bytes(padded[at : at + BLOCK], "big") for at in range(0, len(padded), BLOCK)]


def tag(key: bytes, nonce: bytes, associated: bytes, ciphertext: bytes) -> int:
    subkey, digest = encrypt_block(key, bytes(BLOCK)), 0
    lengths = (8 * len(associated)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    for block in [*blocks(associated), *blocks(ciphertext), *blocks(lengths)]:
        digest = multiply(digest ^ block, subkey)
    return digest ^ encrypt_block(key, nonce + b"\0\0\0\1")


def sealed_for_two(first: EncryptionKey, second: EncryptionKey, purpose: bytes) -> bytes:
    """Sealed data, one chunk of four blocks, that is authentic under both keys."""
    header = b"hauberk\x01" + os.urandom(39)
    nonce, associated = header[-7:] + bytes(4) + b"\1", header + purpose
    keys = [
        key.subkey(salt=header[8:40], purpose=b"hauberk sealed data\0" + purpose).reveal() for key in (first, second)
    ]
    start = os.urandom(3 * BLOCK)
    differing = [tag(key, nonce, associated, start + bytes(BLOCK)) for key in keys]
    # The last block of the ciphertext stands before the lengths: it counts times the square of the subkey.
    squares = [power(encrypt_block(key, bytes(BLOCK)), 2) for key in keys]
    block = multiply(differing[0] ^ differing[1], power(squares[0] ^ squares[1], 2**128 - 2))
    ciphertext = start + block.to_bytes(BLOCK, "big")
    return header + ciphertext + tag(keys[0], nonce, associated, ciphertext).to_bytes(BLOCK, "big")


def with_model(bundle: bytes, sealed: bytes, signing: SigningKey) -> bytes:
    members = {name: bytes(content) for name, content in unpack(bundle).items()} | {MODEL: sealed}
    manifest = json.loads(members["manifest.json"])
    manifest["members"][0].update(size=len(sealed), sha256=hashlib.sha256(sealed).hexdigest())
    members["manifest.json"] = msgspec.json.encode(manifest)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    del digests["signature.json"]
    members["signature.json"] = sign_files(digests, signing, name="tiny", signature_name="signature.json")
    return pack(members)


def test_a_bundle_opens_under_one_key_only(
    bundle: bytes, key: EncryptionKey, signing: SigningKey, policy: TrustPolicy
) -> None:
    other = EncryptionKey.generate()
    salt = decode_bundle(bundle, policy).manifest.encryption.salt
    inner = [_bundle_key(each, salt) for each in (key, other)]
    sealed = sealed_for_two(*inner, member_purpose(MODEL))
    clear = [unseal(sealed, each, purpose=member_purpose(MODEL)) for each in inner]
    assert clear[0] != clear[1]  # two models in one member, authentic under either key
    verified = decode_bundle(with_model(bundle, sealed, signing), policy)
    assert verified.unlock(key).model == clear[0]
    with pytest.raises(TrustError, match="this is not the one that the bundle was sealed with"):
        verified.unlock(other)
