"""Whose signature counts."""

from __future__ import annotations

import msgspec

from hauberk.errors import InputError, TrustError
from hauberk.trust.signing import PublicKey


class TrustPolicy(msgspec.Struct, frozen=True):
    """The signers that are trusted; anyone else's signature is refused, however valid.

    Attributes:
        signers: At least one public key.

    Raises:
        InputError: No signer.
    """

    signers: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        if not self.signers:
            raise InputError("trust policy: name at least one public key")

    def signer(self, fingerprint: str) -> PublicKey:
        """The trusted key of that fingerprint.

        Raises:
            TrustError: There is none.
        """
        for key in self.signers:
            if key.fingerprint == fingerprint:
                return key
        trusted = ", ".join(key.fingerprint[:16] for key in self.signers)
        raise TrustError(f"signed with the key {fingerprint[:16]}, which is not trusted; trusted: {trusted}")
