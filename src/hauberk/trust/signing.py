"""ECDSA on P-256 with SHA-256: signing keys, public keys, and the one form of a signature that is accepted.

An ECDSA signature (r, s) has a twin (r, n - s) that verifies as well, and DER could be written in several ways. Only
the smaller s in its shortest encoding is made and accepted here, so that no bit of a signature can change unnoticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import cached_property
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from hauberk.errors import InputError
from hauberk.files import read_bounded
from hauberk.trust.secret import Secret

_FILE_LIMIT = 16384
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, SEC 2 section 2.4.2
# SubjectPublicKeyInfo (RFC 5480) of an uncompressed P-256 point is these 26 bytes, then the 65 of the point.
_PUBLIC_KEY_INFO = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_PEM_BEGIN, _PEM_END = b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----"


class PublicKey(msgspec.Struct, frozen=True, dict=True):
    """The public half of a signing key: who signed, as far as mathematics can say.

    Attributes:
        point: The uncompressed point, 65 bytes, on the curve.
    """

    point: bytes

    @classmethod
    def from_pem(cls, text: bytes, *, where: str = "public key") -> PublicKey:
        """Read a P-256 public key in PEM (SubjectPublicKeyInfo).

        Raises:
            InputError: Anything else; the message begins with `where`.
        """
        if b"PRIVATE KEY-----" in text:
            raise InputError(f"{where}: this is a private key; give the public one")
        text = text.strip()
        body = text.removeprefix(_PEM_BEGIN).removesuffix(_PEM_END)
        try:
            whole = len(text) == len(_PEM_BEGIN) + len(body) + len(_PEM_END)
            information = base64.b64decode(b"".join(body.split()), validate=True) if whole else b""
            if not information.startswith(_PUBLIC_KEY_INFO):
                raise InputError(f"{where}: expected an EC P-256 public key in PEM, as 'hauberk keys new' writes it")
            key = cls(information[len(_PUBLIC_KEY_INFO) :])
            _ = key._key
        except (binascii.Error, ValueError):
            raise InputError(f"{where}: this public key is damaged") from None
        return key

    @property
    def pem(self) -> bytes:
        """The key in PEM (SubjectPublicKeyInfo), as OpenSSL writes it."""
        body = base64.b64encode(_PUBLIC_KEY_INFO + self.point)
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        return b"\n".join([_PEM_BEGIN, *lines, _PEM_END, b""])

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of `pem`: the hint of the OpenSSF model-signing format."""
        return hashlib.sha256(self.pem).hexdigest()

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` (DER) is one of `data` by this key; its form is a matter for `is_canonical`."""
        try:
            self._key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    @cached_property
    def _key(self) -> ec.EllipticCurvePublicKey:
        # Checks that the point lies on the curve. Importing the PEM reader instead would cost 6 ms at start-up.
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.point)


class SigningKey(Secret):
    """An EC P-256 private key.

    Args:
        value: The key in PEM: PKCS #8 or SEC 1, not encrypted.

    Raises:
        InputError: It is something else.
    """

    __slots__ = ("_key", "public_key")

    public_key: PublicKey

    def __init__(self, value: bytes) -> None:
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - 6 ms that only signers pay
            Encoding,
            PublicFormat,
            load_pem_private_key,
        )

        super().__init__(value)
        del value  # an error must not carry it along
        try:
            key = load_pem_private_key(self._value, password=None)
        except TypeError:
            raise InputError("signing key: it is encrypted; 'openssl pkcs8' decrypts it") from None
        except Exception:  # noqa: BLE001 - the reader raises many kinds, and what they say may quote the key
            raise InputError("signing key: expected an EC P-256 private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise InputError("signing key: expected an EC key on P-256, this is of another kind")
        self._key = key
        self.public_key = PublicKey(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key from the operating system's generator."""
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - 6 ms that only signers pay
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def sign(self, data: bytes) -> bytes:
        """Sign; the signature is DER with the smaller s."""
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(SHA256())))
        return encode_dss_signature(r, min(s, _ORDER - s))


def is_canonical(signature: bytes) -> bool:
    """Whether a signature is in the only form that bundles may have: shortest DER, s at most half the group order."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    return 0 < r < _ORDER and 0 < s <= _ORDER // 2 and encode_dss_signature(r, s) == signature


def public_key_from_file(path: Path) -> PublicKey:
    """Read a public key in PEM.

    Raises:
        InputError: The file is missing or holds something else.
    """
    return PublicKey.from_pem(read_bounded(path, _FILE_LIMIT), where=str(path))


def signing_key_from_file(path: Path) -> SigningKey:
    """Read a private key in PEM.

    Raises:
        InputError: The file is missing, is readable by anyone but its owner, or holds something else.
    """
    try:
        return SigningKey(read_bounded(path, _FILE_LIMIT, private=True))
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(str(path)) else f"{path}: {message}") from None
