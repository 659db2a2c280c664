"""`manifest.json`: what a bundle is, in the clear: nothing in it helps a thief or an evader."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hauberk.bundle.container import is_plain_name
from hauberk.tensors import Signature, TensorSpec
from hauberk.trust import Argon2id, Scrypt

MANIFEST = "manifest.json"
MODEL = "model.enc"
SCHEMA = "schema.enc"
PUBLIC_EVIDENCE = "evidence/public.json"
FULL_EVIDENCE = "evidence/full.enc"
SIGNATURE = "signature.json"

STATEMENTS = "statements.json"
"""The evidence file that is a statement: a DSSE envelope, signed with the bundle's own key."""

MEMBERS = (MANIFEST, MODEL, SCHEMA, PUBLIC_EVIDENCE, FULL_EVIDENCE, SIGNATURE)
"""Every member, in the order in which they lie in a bundle of format 1."""

MANIFEST_LIMIT = 1 << 18
"""The longest manifest, in bytes, that is read."""

_NAME_LIMIT = 64


class Direct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="key", tag_field="kind"):
    """Sealed with a key: no passphrase, nothing to derive."""


class Encryption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the encrypted members were encrypted.

    Attributes:
        cipher: AES-256-GCM in the STREAM construction, 64 KiB of clear bytes a chunk.
        salt: 32 random bytes; the bundle's own key is derived from the user's key with it.
        commitment: 32 bytes, derived likewise: tells a wrong key, and ties the bundle to one key only.
        derivation: Whether the user's key is a key or a passphrase, and how the latter becomes a key.
    """

    cipher: Literal["AES-256-GCM-STREAM"]
    salt: bytes
    commitment: bytes
    derivation: Direct | Argon2id | Scrypt


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it takes to run the model.

    Attributes:
        backend: The inference engine.
        version: Its lowest version, major and minor.
        ir_version: Version of the ONNX format.
        opsets: Version of each operator set by its domain; `ai.onnx` is the standard one.
    """

    backend: Literal["onnxruntime"]
    version: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,4}\.[0-9]{1,4}\Z")]
    ir_version: int
    opsets: dict[str, int]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A member other than manifest and signature: name, size in bytes, SHA-256 in hexadecimal digits."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle is.

    Attributes:
        format: Version of the bundle format.
        name: Name of the detector.
        mode: How the model lies in `model.enc`: "plain" is an ONNX graph as it is.
        inputs: Name, dtype and shape of what the model takes.
        outputs: The same of what it gives.
        needs: What it takes to run it.
        encryption: How the `.enc` members were encrypted.
        members: The other members but the signature, in the order in which they lie in the bundle.
    """

    format: Literal[1]
    name: str
    mode: Literal["plain"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    needs: Needs
    encryption: Encryption
    members: tuple[Member, ...]

    @property
    def signature(self) -> Signature:
        """Inputs and outputs of the model."""
        return Signature(self.inputs, self.outputs)


def is_detector_name(name: str) -> bool:
    """Whether a detector may be called that: up to 64 letters, digits, `.`, `_`, `-`; the first a letter or digit."""
    return len(name) <= _NAME_LIMIT and is_plain_name(name)
