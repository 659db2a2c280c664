"""Sealing: what is documented is what is written, and nothing but that is opened."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import TrustError
from hauberk.trust import EncryptionKey, seal, unseal
from hauberk.trust.encryption import CHUNK

KEY = EncryptionKey(bytes(range(32)))
SIZES = [0, 1, 15, 16, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5]
HEADER = 47


def written(size: int) -> bytes:
    return bytes(index % 251 for index in range(size))


def reference_open(sealed: bytes, key: bytes, purpose: bytes) -> bytes:
    """A second implementation, from docs/reference/bundle-format.md alone."""
    assert sealed[:8] == b"hauberk\x01"
    salt, prefix, header = sealed[8:40], sealed[40:47], sealed[:47]
    message_key = HKDF(SHA256(), 32, salt, b"hauberk sealed data\x00" + purpose).derive(key)
    chunks = [sealed[start : start + 65552] for start in range(47, len(sealed), 65552)]
    clear = b""
    for number, chunk in enumerate(chunks):
        last = b"\x01" if number == len(chunks) - 1 else b"\x00"
        clear += AESGCM(message_key).decrypt(prefix + number.to_bytes(4, "big") + last, chunk, header + purpose)
    return clear


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens(size):
    sealed = seal(written(size), KEY, purpose=b"model")
    assert len(sealed) == HEADER + size + 16 * max(1, math.ceil(size / CHUNK))
    assert unseal(sealed, KEY, purpose=b"model") == written(size)


@pytest.mark.parametrize("size", SIZES)
def test_a_second_implementation_opens_it(size):
    sealed = seal(written(size), KEY, purpose=b"model")
    assert reference_open(sealed, KEY.reveal(), b"model") == written(size)


def test_views_are_sealed_and_opened_without_copies_being_needed():
    sealed = seal(memoryview(written(100))[10:], KEY, purpose=b"x")
    assert unseal(memoryview(b"__" + sealed)[2:], KEY, purpose=b"x") == written(100)[10:]


def test_the_same_data_never_looks_the_same():
    first, second = (seal(bytes(100), KEY, purpose=b"x") for _ in range(2))
    assert first[HEADER:] != second[HEADER:]


@pytest.mark.parametrize("size", [0, 5, CHUNK + 3])
def test_another_key_or_purpose_opens_nothing(size):
    sealed = seal(written(size), KEY, purpose=b"model")
    for key, purpose in ((EncryptionKey(bytes(32)), b"model"), (KEY, b"schema"), (KEY, b"")):
        with pytest.raises(TrustError, match="the key is wrong, or bytes were changed"):
            unseal(sealed, key, purpose=purpose)


def test_every_changed_byte_is_noticed():
    sealed = bytearray(seal(written(60), KEY, purpose=b"x"))
    for position in range(len(sealed)):
        for flip in (0x01, 0x80, 0xFF):
            sealed[position] ^= flip
            with pytest.raises(TrustError):
                unseal(bytes(sealed), KEY, purpose=b"x")
            sealed[position] ^= flip
    assert unseal(bytes(sealed), KEY, purpose=b"x") == written(60)


@pytest.mark.parametrize("size", [0, 40, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_cut_and_extended_data_is_noticed(size):
    sealed = seal(written(size), KEY, purpose=b"x")
    ends = {*range(80), *range(len(sealed) - 40, len(sealed)), HEADER + CHUNK + 16, HEADER + CHUNK}
    for end in sorted(end for end in ends if 0 <= end < len(sealed)):
        with pytest.raises(TrustError):
            unseal(sealed[:end], KEY, purpose=b"x")
    for more in (b"\x00", bytes(16), bytes(17), sealed[HEADER:]):
        with pytest.raises(TrustError):
            unseal(sealed + more, KEY, purpose=b"x")


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (0, 2), (0, 0, 2), (0, 1), (2,), (1, 2), (0, 1, 1, 2)])
def test_moved_dropped_and_doubled_chunks_are_noticed(order):
    sealed = seal(written(2 * CHUNK + 9), KEY, purpose=b"x")
    step = CHUNK + 16
    chunks = [sealed[HEADER + start : HEADER + start + step] for start in range(0, len(sealed) - HEADER, step)]
    assert len(chunks) == 3
    with pytest.raises(TrustError):
        unseal(sealed[:HEADER] + b"".join(chunks[index] for index in order), KEY, purpose=b"x")


def test_a_chunk_of_another_message_under_the_same_key_is_noticed():
    first, second = (seal(written(2 * CHUNK), KEY, purpose=b"x") for _ in range(2))
    with pytest.raises(TrustError):
        unseal(first[: HEADER + CHUNK + 16] + second[HEADER + CHUNK + 16 :], KEY, purpose=b"x")


@given(st.binary(max_size=200))
def test_whatever_the_bytes_the_answer_is_an_error_of_ours(data):
    for text in (data, b"hauberk\x01" + data):
        with pytest.raises(TrustError):
            unseal(text, KEY, purpose=b"x")


@given(st.binary(max_size=500), st.binary(max_size=20))
def test_sealing_and_opening_are_inverse(data, purpose):
    assert unseal(seal(data, KEY, purpose=purpose), KEY, purpose=purpose) == data
