"""Reading bundles: bounds, then form, then signature, and only then a look inside.

The file is read into memory once; what is verified is what is used, whatever happens to the file meanwhile.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from hauberk.bundle.container import SIZE_LIMIT, unpack
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
    Manifest,
    Member,
    is_detector_name,
)
from hauberk.bundle.sealing import bundle_key, member_purpose
from hauberk.errors import BundleError, SchemaError, TrustError
from hauberk.files import read_bounded
from hauberk.schema import RecordSchema
from hauberk.trust import (
    EncryptionKey,
    Passphrase,
    PublicKey,
    TrustPolicy,
    default_policy,
    unseal,
    verify_files,
    verify_statement,
)
from hauberk.trust.canonical_json import decode_canonical


class OpenedBundle(msgspec.Struct, frozen=True):
    """What a bundle holds for those who have the key.

    Attributes:
        manifest: What it is.
        model: The merged ONNX graph, serialised.
        schema: The records that it takes.
        threshold: The score from which on a record raises an alert.
    """

    manifest: Manifest
    model: bytes
    schema: RecordSchema
    threshold: float

    def __repr__(self) -> str:
        return f"OpenedBundle({self.manifest.name!r})"


class VerifiedBundle(msgspec.Struct, frozen=True):
    """A bundle of which every byte is what a trusted signer signed; nothing is decrypted yet.

    Attributes:
        manifest: What it is.
        signer: Who signed it.
        members: The content of every member by name, in the order in which they lie in the file.
    """

    manifest: Manifest
    signer: PublicKey
    members: dict[str, memoryview]

    def __repr__(self) -> str:
        return f"VerifiedBundle({self.manifest.name!r}, signer={self.signer.fingerprint[:16]})"

    def public_evidence(self) -> dict[str, Any]:
        """The in-toto statement that anyone may read, its own signature checked.

        Raises:
            TrustError: It is not signed by the bundle's signer.
        """
        return verify_statement(self.members[PUBLIC_EVIDENCE], TrustPolicy((self.signer,)), what=PUBLIC_EVIDENCE)

    def unlock(self, key: EncryptionKey | Passphrase) -> OpenedBundle:
        """Decrypt model and schema.

        Raises:
            TrustError: The key is wrong.
            BundleError: What was signed and encrypted is not what a bundle holds.
        """
        secret = bundle_key(self.manifest.encryption, key)
        model = unseal(self.members[MODEL], secret, purpose=member_purpose(MODEL))
        try:
            details = msgspec.json.decode(
                unseal(self.members[SCHEMA], secret, purpose=member_purpose(SCHEMA)), type=Details
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, SchemaError) as error:
            raise BundleError(f"{SCHEMA}: {error}") from error
        return OpenedBundle(self.manifest, model, details.schema, details.threshold)

    def audit(self, key: EncryptionKey | Passphrase) -> OpenedBundle:
        """Decrypt everything and check that the evidence, public and full, speaks of this very model.

        Raises:
            TrustError: The key is wrong, or a statement is not signed by the bundle's signer.
            BundleError: A statement speaks of another model, or what was encrypted is not what a bundle holds.
        """
        opened = self.unlock(key)
        require_subject(self.public_evidence(), opened.model, what=PUBLIC_EVIDENCE)
        files = self.evidence(key)
        if STATEMENTS in files:
            statement = verify_statement(files[STATEMENTS], TrustPolicy((self.signer,)), what=STATEMENTS)
            require_subject(statement, opened.model, what=STATEMENTS)
        return opened

    def evidence(self, key: EncryptionKey | Passphrase) -> dict[str, bytes]:
        """Decrypt the full evidence.

        Returns:
            Content by file name; the signature of `statements.json`, where it is there, has been checked.

        Raises:
            TrustError: The key is wrong.
            BundleError: What was signed and encrypted is not what a bundle holds.
        """
        secret = bundle_key(self.manifest.encryption, key)
        files = unpack(unseal(self.members[FULL_EVIDENCE], secret, purpose=member_purpose(FULL_EVIDENCE)))
        if STATEMENTS in files:
            verify_statement(files[STATEMENTS], TrustPolicy((self.signer,)), what=STATEMENTS)
        return {name: bytes(content) for name, content in files.items()}


def read_bundle(path: Path, policy: TrustPolicy | None = None) -> VerifiedBundle:
    """Read a bundle and verify all of it.

    Args:
        path: The file.
        policy: Whose signature counts; that of your own default key where it is `None`.

    Raises:
        InputError: There is no such file, it cannot be read, it is larger than any bundle, or there is no default key.
        BundleError: It is not a bundle, not in canonical form, or not complete.
        TrustError: It is not signed by a trusted signer, or not what was signed.
    """
    data = read_bounded(path, SIZE_LIMIT)
    return decode_bundle(data, default_policy() if policy is None else policy, where=str(path))


def decode_bundle(data: bytes, policy: TrustPolicy, *, where: str = "bundle") -> VerifiedBundle:
    """Verify the bytes of a bundle; as `read_bundle`. Messages begin with `where`."""
    try:
        return _decode(data, policy)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error
    except TrustError as error:
        raise TrustError(f"{where}: {error}") from error


def _decode(data: bytes, policy: TrustPolicy) -> VerifiedBundle:
    members = unpack(data)
    if tuple(members) != MEMBERS:
        raise BundleError(_wrong_members(members))
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items() if name != SIGNATURE}
    signer = verify_files(members[SIGNATURE], digests, policy, signature_name=SIGNATURE)
    manifest = decode_canonical(members[MANIFEST], Manifest, limit=MANIFEST_LIMIT, what=MANIFEST)
    found = tuple(Member(name, len(members[name]), digest) for name, digest in digests.items() if name != MANIFEST)
    if manifest.members != found or not is_detector_name(manifest.name):
        raise BundleError(f"{MANIFEST}: it does not describe the members that are there")
    return VerifiedBundle(manifest, signer, members)


def _wrong_members(members: dict[str, memoryview]) -> str:
    for name in MEMBERS:
        if name not in members:
            return f"container: {name} is missing"
    for name in members:
        if name not in MEMBERS:
            return f"container: {name} does not belong into a bundle"
    return "container: the members are not in their order"
