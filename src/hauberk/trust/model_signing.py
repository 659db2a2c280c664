"""Signatures over a set of files in the OpenSSF model-signing format, version 1.0, with an EC key.

The signature file is a Sigstore bundle (v0.3, JSON) around a DSSE envelope around an in-toto statement that lists the
SHA-256 of every file (github.com/sigstore/model-transparency). The public `model_signing` tool verifies what is made
here, and what it makes is verified here with `cryptography` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from hauberk.errors import TrustError
from hauberk.trust.canonical_json import decode, decode_canonical
from hauberk.trust.dsse import FILES_PREDICATE, STATEMENT_TYPE, Envelope, enclose, open_envelope
from hauberk.trust.policy import TrustPolicy
from hauberk.trust.signing import PublicKey, SigningKey

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE_LIMIT = 1 << 18
"""The longest signature file, in bytes, that is read."""


class _Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    algorithm: Literal["sha256"]
    digest: str


class _Serialization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    allow_symlinks: bool
    hash_type: Literal["sha256"]
    ignore_paths: tuple[str, ...] = ()
    method: Literal["files"]


class _Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    resources: tuple[_Resource, ...]
    serialization: _Serialization


class _Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str


class _Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    digest: _Digest


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    type_: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: Literal["https://model_signing/signature/v1.0"]
    predicate: _Predicate


class _KeyHint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hint: str


class _VerificationMaterial(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    public_key: _KeyHint
    tlog_entries: tuple[()] = ()


class _SigstoreBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _VerificationMaterial
    dsse_envelope: Envelope


def sign_files(digests: Mapping[str, str], key: SigningKey, *, name: str, signature_name: str) -> bytes:
    """Sign a set of files.

    Args:
        digests: SHA-256 (hex) by file name, relative to the folder, with `/` between parts.
        key: Whose signature it gets.
        name: Name of the model; informative.
        signature_name: Where in the folder the signature file will lie: the one file that it does not cover.

    Returns:
        The signature file, in the one form that `verify_files` accepts as canonical.
    """
    payload = msgspec.json.encode(_statement(digests, name=name, ignored=(signature_name,)))
    bundle = _SigstoreBundle(
        MEDIA_TYPE,
        _VerificationMaterial(_KeyHint(key.public_key.fingerprint)),
        enclose(payload, key, key_identifier=""),
    )
    return msgspec.json.encode(bundle)


def verify_files(
    signature: bytes | memoryview,
    digests: Mapping[str, str],
    policy: TrustPolicy,
    *,
    signature_name: str | None = None,
) -> PublicKey:
    """Check that a trusted signer signed exactly these files.

    Args:
        signature: The signature file.
        digests: SHA-256 (hex) by name of every file that is there; one more or less than was signed is refused,
            whatever the signature says is to be ignored.
        policy: Whose signature counts.
        signature_name: Given, the file must be byte for byte as `sign_files` writes it; `None` accepts any rendering,
            such as that of the public tool.

    Returns:
        The signer.

    Raises:
        TrustError: Anything else.
    """
    canonical = signature_name is not None
    read = decode_canonical if canonical else decode
    bundle = read(signature, _SigstoreBundle, limit=SIGNATURE_LIMIT, what="signature")
    signer = policy.signer(bundle.verification_material.public_key.hint)
    payload = open_envelope(bundle.dsse_envelope, signer, canonical=canonical)
    statement = read(payload, _Statement, limit=SIGNATURE_LIMIT, what="signature")
    if len(statement.subject) != 1:
        raise TrustError("signature: expected one over exactly one model")
    ignored = (signature_name,) if signature_name is not None else statement.predicate.serialization.ignore_paths
    expected = _statement(
        digests,
        name=statement.subject[0].name,
        ignored=ignored,
        symlinks=not canonical and statement.predicate.serialization.allow_symlinks,
    )
    if statement != expected:
        raise TrustError(f"signature: {_difference(statement, digests)}")
    if canonical and bundle.dsse_envelope.signatures[0].keyid:
        raise TrustError("signature: not in canonical form")
    return signer


def _statement(
    digests: Mapping[str, str], *, name: str, ignored: tuple[str, ...], symlinks: bool = False
) -> _Statement:
    """The statement over files: sorted by the parts of their paths, with one digest over all digests."""
    names = sorted(digests, key=lambda path: path.split("/"))
    root = hashlib.sha256(b"".join(bytes.fromhex(digests[name]) for name in names)).hexdigest()
    return _Statement(
        STATEMENT_TYPE,
        (_Subject(name, _Digest(root)),),
        FILES_PREDICATE,
        _Predicate(
            tuple(_Resource(name, "sha256", digests[name]) for name in names),
            _Serialization(allow_symlinks=symlinks, hash_type="sha256", ignore_paths=ignored, method="files"),
        ),
    )


def _difference(statement: _Statement, digests: Mapping[str, str]) -> str:
    """In words, how the signed files differ from those that are there."""
    signed = {resource.name: resource.digest for resource in statement.predicate.resources}
    for name in sorted(signed.keys() | digests.keys()):
        if name not in digests:
            return f"{name} was signed and is missing"
        if name not in signed:
            return f"{name} was not signed"
        if signed[name] != digests[name]:
            return f"{name} was changed after signing"
    return "its statement contradicts itself"
