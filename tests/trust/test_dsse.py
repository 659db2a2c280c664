"""Envelopes: the encoding of the protocol, and statements that hold only unchanged and from whom is trusted."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import InputError, TrustError
from hauberk.trust import SigningKey, TrustPolicy, sign_files, sign_statement, verify_statement
from hauberk.trust.dsse import authenticated_bytes

KEY = SigningKey.generate()
POLICY = TrustPolicy((KEY.public_key,))
STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "détecteur", "digest": {"sha256": "00" * 32}}],
    "predicateType": "https://example.org/test/v1",
    "predicate": {"figures": [1, 2.5, None, True], "nested": {"a": "b"}},
}


def test_the_example_of_the_protocol():
    """From github.com/secure-systems-lab/dsse, protocol.md, test vectors."""
    encoded = authenticated_bytes("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_a_second_implementation_verifies_it():
    envelope = json.loads(sign_statement(STATEMENT, KEY))
    payload = base64.b64decode(envelope["payload"], validate=True)
    signed = f"DSSEv1 {len(envelope['payloadType'])} {envelope['payloadType']} {len(payload)} ".encode() + payload
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    load_pem_public_key(KEY.public_key.pem).verify(signature, signed, ec.ECDSA(SHA256()))
    assert json.loads(payload) == STATEMENT


def test_what_is_signed_is_read_back():
    assert verify_statement(sign_statement(STATEMENT, KEY), POLICY) == STATEMENT


def test_another_signer_is_refused():
    text = sign_statement(STATEMENT, SigningKey.generate())
    with pytest.raises(TrustError, match="not trusted"):
        verify_statement(text, POLICY)


def test_a_claimed_key_must_be_the_one_that_signed():
    text = sign_statement(STATEMENT, SigningKey.generate())
    envelope = json.loads(text)
    envelope["signatures"][0]["keyid"] = KEY.public_key.fingerprint
    with pytest.raises(TrustError, match="does not hold"):
        verify_statement(msgspec.json.encode(envelope), POLICY)


def test_every_changed_byte_is_noticed():
    text = bytearray(sign_statement(STATEMENT, KEY))
    for position in range(len(text)):
        for flip in (0x01, 0x20):
            text[position] ^= flip
            with pytest.raises(TrustError):
                verify_statement(bytes(text), POLICY)
            text[position] ^= flip
    assert verify_statement(bytes(text), POLICY) == STATEMENT


@pytest.mark.parametrize("change", [{"_type": "other"}, {"_type": None}])
def test_what_is_no_statement_is_not_signed(change):
    with pytest.raises(InputError, match="expected an in-toto statement"):
        sign_statement(STATEMENT | change, KEY)


def test_a_statement_needs_subject_and_predicate_type():
    for key in ("subject", "predicateType"):
        with pytest.raises(InputError, match="expected an in-toto statement"):
            sign_statement({name: value for name, value in STATEMENT.items() if name != key}, KEY)


def test_a_statement_does_not_pass_for_a_signature_over_files():
    """Evidence may come from elsewhere; were it signed, its envelope could be put into a `signature.json`."""
    digests = {"model.enc": "00" * 32}
    files = msgspec.json.decode(sign_files(digests, KEY, name="model", signature_name="signature.json"))
    statement = msgspec.json.decode(base64.b64decode(files["dsseEnvelope"]["payload"]))
    with pytest.raises(InputError, match="signature over files"):
        sign_statement(statement, KEY)


def test_a_signature_over_files_does_not_pass_for_a_statement():
    files = msgspec.json.decode(sign_files({"model.enc": "00" * 32}, KEY, name="m", signature_name="signature.json"))
    envelope = files["dsseEnvelope"]
    envelope["signatures"][0]["keyid"] = KEY.public_key.fingerprint  # not part of what is signed
    with pytest.raises(TrustError, match="expected an in-toto statement"):
        verify_statement(msgspec.json.encode(envelope), POLICY)


def test_deep_nesting_is_an_error_of_ours():
    with pytest.raises(TrustError):
        verify_statement(b'{"payload":' + b"[" * 200_000, POLICY)


@given(st.binary(max_size=300))
def test_whatever_the_bytes_the_answer_is_an_error_of_ours(data):
    with pytest.raises(TrustError):
        verify_statement(data, POLICY)
