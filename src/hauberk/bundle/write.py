"""Writing bundles: encrypt, sign the statements, describe, sign everything, and only then touch the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from hauberk.bundle.container import pack
from hauberk.bundle.contents import BundleContents
from hauberk.bundle.details import Details
from hauberk.bundle.evidence import require_subject
from hauberk.bundle.manifest import (
    FULL_EVIDENCE,
    MANIFEST,
    MANIFEST_LIMIT,
    MEMBERS,
    MODEL,
    PUBLIC_EVIDENCE,
    SCHEMA,
    SIGNATURE,
    STATEMENTS,
    Encryption,
    Manifest,
    Member,
    Needs,
)
from hauberk.bundle.needs import needs_of
from hauberk.bundle.sealing import member_purpose, new_encryption
from hauberk.errors import BundleError, InputError, TrustError
from hauberk.files import write_atomically
from hauberk.trust import (
    EncryptionKey,
    Passphrase,
    SigningKey,
    TrustPolicy,
    seal,
    sign_files,
    sign_statement,
    verify_statement,
)


def write_bundle(
    path: Path, contents: BundleContents, *, encryption: EncryptionKey | Passphrase, signing: SigningKey
) -> None:
    """Encrypt, sign and write a detector; `path` holds a whole bundle afterwards, or what it held before.

    Args:
        path: Where to write.
        contents: What to write.
        encryption: Who knows it can use the bundle. A passphrase is stretched by Argon2id.
        signing: Whose signature it bears.

    Raises:
        InputError: The contents are not what they should be, or the file cannot be written.
    """
    write_atomically(path, encode_bundle(contents, encryption=encryption, signing=signing))


def encode_bundle(contents: BundleContents, *, encryption: EncryptionKey | Passphrase, signing: SigningKey) -> bytes:
    """The bytes of a bundle; as `write_bundle`."""
    needs = needs_of(contents.model)
    _check_statements(contents, signing)
    parameters, key = new_encryption(encryption)
    details = msgspec.json.encode(Details(contents.schema, contents.threshold))
    members = {
        MODEL: seal(contents.model, key, purpose=member_purpose(MODEL)),
        SCHEMA: seal(details, key, purpose=member_purpose(SCHEMA)),
        PUBLIC_EVIDENCE: sign_statement(contents.public, signing),
        FULL_EVIDENCE: seal(pack(contents.evidence), key, purpose=member_purpose(FULL_EVIDENCE)),
    }
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    manifest = msgspec.json.encode(_manifest(contents, needs, parameters, members, digests))
    if len(manifest) > MANIFEST_LIMIT:
        raise InputError(f"manifest: longer than {MANIFEST_LIMIT} bytes; the model has too many inputs or outputs")
    members[MANIFEST] = manifest
    digests[MANIFEST] = hashlib.sha256(manifest).hexdigest()
    members[SIGNATURE] = sign_files(digests, signing, name=contents.name, signature_name=SIGNATURE)
    return pack({name: members[name] for name in MEMBERS})


def _manifest(
    contents: BundleContents,
    needs: Needs,
    encryption: Encryption,
    members: dict[str, bytes],
    digests: dict[str, str],
) -> Manifest:
    return Manifest(
        format=1,
        name=contents.name,
        mode="plain",
        inputs=contents.signature.inputs,
        outputs=contents.signature.outputs,
        needs=needs,
        encryption=encryption,
        members=tuple(Member(name, len(members[name]), digests[name]) for name in MEMBERS if name in members),
    )


def _check_statements(contents: BundleContents, signing: SigningKey) -> None:
    """What a reader with the key will check, the writer checks first."""
    try:
        require_subject(contents.public, contents.model, what=PUBLIC_EVIDENCE)
    except BundleError as error:
        raise InputError(str(error)) from error
    if STATEMENTS not in contents.evidence:
        return
    try:
        statement = verify_statement(contents.evidence[STATEMENTS], TrustPolicy((signing.public_key,)), what=STATEMENTS)
        require_subject(statement, contents.model, what=STATEMENTS)
    except TrustError as error:
        raise InputError(f"{error}; sign it with hauberk.trust.sign_statement and the bundle's signing key") from error
