"""Keys, authenticated encryption, signatures and whom to trust. Nothing here knows what it encrypts or signs."""

from hauberk.trust.defaults import (
    DefaultKeys,
    configuration_folder,
    default_encryption_key,
    default_keys,
    default_policy,
    default_public_key,
)
from hauberk.trust.derivation import Argon2id, Scrypt
from hauberk.trust.dsse import sign_statement, verify_statement
from hauberk.trust.encryption import seal, unseal
from hauberk.trust.keys import (
    EncryptionKey,
    Passphrase,
    key_from_environment,
    key_from_file,
    passphrase_from_environment,
)
from hauberk.trust.model_signing import sign_files, verify_files
from hauberk.trust.policy import TrustPolicy
from hauberk.trust.secret import Secret
from hauberk.trust.signing import PublicKey, SigningKey, public_key_from_file, signing_key_from_file

__all__ = [
    "Argon2id",
    "DefaultKeys",
    "EncryptionKey",
    "Passphrase",
    "PublicKey",
    "Scrypt",
    "Secret",
    "SigningKey",
    "TrustPolicy",
    "configuration_folder",
    "default_encryption_key",
    "default_keys",
    "default_policy",
    "default_public_key",
    "key_from_environment",
    "key_from_file",
    "passphrase_from_environment",
    "public_key_from_file",
    "seal",
    "sign_files",
    "sign_statement",
    "signing_key_from_file",
    "unseal",
    "verify_files",
    "verify_statement",
]
