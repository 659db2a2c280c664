"""DSSE envelopes (github.com/secure-systems-lab/dsse, protocol v1.0.2) around in-toto statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hauberk.errors import InputError, TrustError
from hauberk.trust.canonical_json import decode, decode_canonical
from hauberk.trust.policy import TrustPolicy
from hauberk.trust.signing import PublicKey, SigningKey, is_canonical

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
FILES_PREDICATE: Final = "https://model_signing/signature/v1.0"
"""What signatures over files say; a statement that said it could be put in the place of one."""

STATEMENT_LIMIT = 32 << 20
"""The longest envelope, in bytes, that is read."""


class EnvelopeSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature (DER) over an envelope's payload, and a hint at its key."""

    sig: bytes
    keyid: str


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A payload, its type, and signatures over both."""

    payload: bytes
    payload_type: str
    signatures: tuple[EnvelopeSignature, ...]


def authenticated_bytes(payload_type: str, payload: bytes) -> bytes:
    """What is signed: the pre-authentication encoding (PAE) of the DSSE protocol."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def enclose(payload: bytes, key: SigningKey, *, key_identifier: str) -> Envelope:
    """Sign an in-toto payload."""
    signature = key.sign(authenticated_bytes(PAYLOAD_TYPE, payload))
    return Envelope(payload, PAYLOAD_TYPE, (EnvelopeSignature(signature, key_identifier),))


def open_envelope(envelope: Envelope, key: PublicKey, *, canonical: bool = True) -> bytes:
    """The payload of an envelope with exactly one signature, which must be by `key`.

    Args:
        envelope: What was received.
        key: Whose signature it must bear.
        canonical: Refuse the twin of an ECDSA signature; only off for signatures that other tools made.

    Raises:
        TrustError: Another payload type, no or several signatures, or a signature that does not hold.
    """
    if envelope.payload_type != PAYLOAD_TYPE or len(envelope.signatures) != 1:
        raise TrustError(f"envelope: expected one signature over {PAYLOAD_TYPE}")
    signature = envelope.signatures[0].sig
    if canonical and not is_canonical(signature):
        raise TrustError("envelope: the signature is not in canonical form")
    if not key.verify(signature, authenticated_bytes(PAYLOAD_TYPE, envelope.payload)):
        raise TrustError(f"envelope: the signature does not hold for the key {key.fingerprint[:16]}")
    return envelope.payload


def sign_statement(statement: Mapping[str, Any], key: SigningKey) -> bytes:
    """Put an in-toto Statement v1 into a signed DSSE envelope.

    Args:
        statement: With `_type`, `subject`, `predicateType` and `predicate`.
        key: Whose signature it gets.

    Returns:
        The envelope as JSON; `keyid` is the fingerprint of the public key.

    Raises:
        InputError: It is not a Statement v1, would pass for a signature over files, or is longer than
            `STATEMENT_LIMIT` once signed.
    """
    if statement.get("_type") != STATEMENT_TYPE or not {"subject", "predicateType"} <= statement.keys():
        raise InputError(f"statement: expected an in-toto statement of type {STATEMENT_TYPE}")
    if statement["predicateType"] == FILES_PREDICATE:
        raise InputError(
            f"statement: {FILES_PREDICATE} is a signature over files; 'hauberk.trust.sign_files' makes one"
        )
    payload = msgspec.json.encode(statement)
    text = msgspec.json.encode(enclose(payload, key, key_identifier=key.public_key.fingerprint))
    if len(text) > STATEMENT_LIMIT:
        raise InputError(f"statement: longer than {STATEMENT_LIMIT} bytes once signed; leave bulky parts out")
    return text


def verify_statement(text: bytes | memoryview, policy: TrustPolicy, *, what: str = "statement") -> dict[str, Any]:
    """Check an envelope that `sign_statement` made and return its statement.

    Raises:
        TrustError: Not canonical, not by a trusted signer, not an in-toto Statement v1, or a signature over files.
    """
    envelope = decode_canonical(text, Envelope, limit=STATEMENT_LIMIT, what=what)
    identifier = envelope.signatures[0].keyid if envelope.signatures else ""
    payload = open_envelope(envelope, policy.signer(identifier))
    statement = decode(payload, dict[str, Any], limit=STATEMENT_LIMIT, what=what)
    if statement.get("_type") != STATEMENT_TYPE or statement.get("predicateType") == FILES_PREDICATE:
        raise TrustError(f"{what}: expected an in-toto statement of type {STATEMENT_TYPE}")
    return statement
