"""Derived keys are those of the standards, and parameters that ask for too much are refused unused."""

from __future__ import annotations

import contextlib
import os
import time

import msgspec
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id as ReferenceArgon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt as ReferenceScrypt
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import TrustError
from hauberk.trust import Argon2id, Passphrase, Scrypt, Secret
from hauberk.trust.derivation import expand, fresh_stretching, stretch

SALT = bytes(range(16))


def test_the_first_vector_of_rfc_5869():
    derived = expand(
        Secret(b"\x0b" * 22),
        salt=bytes.fromhex("000102030405060708090a0b0c"),
        purpose=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"),
    )
    assert derived.reveal().hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


@given(st.binary(min_size=1, max_size=64), st.binary(max_size=80), st.binary(max_size=80))
def test_expansion_is_hkdf(key, salt, purpose):
    reference = HKDF(SHA256(), 32, salt or None, purpose).derive(key)
    assert expand(Secret(key), salt=salt, purpose=purpose).reveal() == reference


def test_the_passphrase_derivation_never_changes():
    """Frozen: bundles sealed by this version open for ever."""
    derived = stretch(Passphrase("correct horse"), Argon2id(salt=SALT, iterations=3, lanes=4, memory=1 << 10))
    assert (
        derived.reveal().hex()
        == ReferenceArgon2id(salt=SALT, length=32, iterations=3, lanes=4, memory_cost=1 << 10)
        .derive(b"correct horse")
        .hex()
    )
    assert derived.reveal().hex() == "90b2db8be7d84dcfa2ea4c6bf6483191646d4d8e9cb83490ea9bba076c4502e4"


def test_scrypt_is_that_of_rfc_7914():
    derived = stretch(Passphrase("correct horse"), Scrypt(salt=SALT, cost=1 << 10, block_size=8, lanes=2))
    assert derived.reveal() == ReferenceScrypt(salt=SALT, length=32, n=1 << 10, r=8, p=2).derive(b"correct horse")


def test_fresh_parameters_are_the_recommended_ones():
    parameters = fresh_stretching()
    assert isinstance(parameters, Argon2id)
    assert (parameters.iterations, parameters.lanes, parameters.memory) == (3, 4, 64 * 1024)
    assert parameters.salt != fresh_stretching().salt


@pytest.mark.parametrize(
    "parameters",
    [
        Argon2id(salt=SALT, iterations=1, lanes=1, memory=(1 << 20) + 1),
        Argon2id(salt=SALT, iterations=1 << 30, lanes=1, memory=1 << 16),
        Argon2id(salt=SALT, iterations=1, lanes=1 << 20, memory=1 << 23),
        Argon2id(salt=SALT, iterations=0, lanes=1, memory=1 << 16),
        Argon2id(salt=SALT, iterations=-1, lanes=1, memory=1 << 16),
        Argon2id(salt=SALT, iterations=1, lanes=0, memory=1 << 16),
        Argon2id(salt=SALT, iterations=1, lanes=4, memory=31),
        Argon2id(salt=b"", iterations=1, lanes=1, memory=1 << 16),
        Argon2id(salt=bytes(1 << 20), iterations=1, lanes=1, memory=1 << 16),
        Scrypt(salt=SALT, cost=1 << 21, block_size=8, lanes=1),
        Scrypt(salt=SALT, cost=1 << 62, block_size=1, lanes=1),
        Scrypt(salt=SALT, cost=1000, block_size=8, lanes=1),
        Scrypt(salt=SALT, cost=0, block_size=8, lanes=1),
        Scrypt(salt=SALT, cost=1 << 10, block_size=0, lanes=1),
        Scrypt(salt=SALT, cost=1 << 20, block_size=8, lanes=64),
        Scrypt(salt=SALT, cost=1 << 10, block_size=8, lanes=1 << 40),
        Scrypt(salt=b"short", cost=1 << 10, block_size=8, lanes=1),
    ],
)
def test_parameters_out_of_bounds_are_refused_at_once(parameters):
    started = time.perf_counter()
    with pytest.raises(TrustError, match=r"^passphrase: "):
        stretch(Passphrase("x"), parameters)
    assert time.perf_counter() - started < 0.5


@given(
    st.builds(
        Argon2id,
        salt=st.just(SALT),
        iterations=st.integers(-5, 3),
        lanes=st.integers(-2, 5),
        memory=st.integers(-9, 64),
    )
    | st.builds(
        Scrypt, salt=st.just(SALT), cost=st.integers(-2, 40), block_size=st.integers(-1, 3), lanes=st.integers(-1, 3)
    )
)
def test_whatever_small_parameters_say_the_answer_is_a_key_or_an_error_of_ours(parameters):
    with contextlib.suppress(TrustError):
        assert len(stretch(Passphrase("x"), parameters).reveal()) == 32


def test_parameters_travel_as_json():
    for parameters in (fresh_stretching(), Scrypt(salt=os.urandom(16), cost=1 << 15, block_size=8, lanes=1)):
        text = msgspec.json.encode(parameters)
        assert msgspec.json.decode(text, type=Argon2id | Scrypt) == parameters
