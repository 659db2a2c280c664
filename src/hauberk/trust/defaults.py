"""The keys that are used where none are given: made once, kept in the user's configuration folder.

The folder is `$HAUBERK_HOME`, else `$XDG_CONFIG_HOME/hauberk`, else `~/.config/hauberk`. It holds

    encryption.key   256 bits, 64 hexadecimal digits, mode 0600
    signing.pem      EC P-256 private key, PKCS #8, mode 0600
    signing.pub      its public half: what `open`, `verify` and `serve` trust where nothing else is said
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from hauberk.errors import InputError
from hauberk.files import write_once
from hauberk.trust.keys import EncryptionKey, key_from_file
from hauberk.trust.policy import TrustPolicy
from hauberk.trust.signing import PublicKey, SigningKey, public_key_from_file, signing_key_from_file

ENCRYPTION_KEY = "encryption.key"
SIGNING_KEY = "signing.pem"
PUBLIC_KEY = "signing.pub"


class DefaultKeys(msgspec.Struct, frozen=True):
    """What `default_keys` found or made.

    Attributes:
        folder: Where the keys lie.
        encryption: Key for bundles.
        signing: Key for signatures.
        created: The files that were made just now, empty where all were there: tell the user.
    """

    folder: Path
    encryption: EncryptionKey
    signing: SigningKey
    created: tuple[Path, ...]

    @property
    def policy(self) -> TrustPolicy:
        """Trust in one's own signature."""
        return TrustPolicy((self.signing.public_key,))


def configuration_folder() -> Path:
    """The user's folder for keys; it need not exist.

    Raises:
        InputError: Neither the environment nor the system says where the user's home is.
    """
    if home := os.environ.get("HAUBERK_HOME"):
        return Path(home)
    if configuration := os.environ.get("XDG_CONFIG_HOME"):
        return Path(configuration) / "hauberk"
    try:
        return Path.home() / ".config" / "hauberk"
    except RuntimeError:
        raise InputError("no home folder is known; set HAUBERK_HOME to a folder for keys") from None


def default_keys(folder: Path | None = None) -> DefaultKeys:
    """The default keys, those that are missing being made; several processes at once end up with the same.

    Args:
        folder: Instead of `configuration_folder()`.

    Raises:
        InputError: The folder cannot be made or written, others may replace it or a key in it, or a key is unusable.
    """
    # Links are followed once: whoever owns one could point it elsewhere after the folder was checked.
    folder = Path(os.path.realpath(configuration_folder() if folder is None else folder))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot make a folder for keys: {(error.strerror or str(error)).lower()}"
        ) from error
    _refuse_open(folder)
    made = []
    if not (folder / ENCRYPTION_KEY).exists():
        made += _make(folder / ENCRYPTION_KEY, EncryptionKey.generate().to_text(), mode=0o600)
    if not (folder / SIGNING_KEY).exists():
        made += _make(folder / SIGNING_KEY, SigningKey.generate().reveal(), mode=0o600)
    signing = signing_key_from_file(folder / SIGNING_KEY)
    if not (folder / PUBLIC_KEY).exists():
        made += _make(folder / PUBLIC_KEY, signing.public_key.pem, mode=0o644)
    for name in (ENCRYPTION_KEY, SIGNING_KEY, PUBLIC_KEY):
        _refuse_open(folder / name)
    if public_key_from_file(folder / PUBLIC_KEY) != signing.public_key:
        raise InputError(
            f"{folder / PUBLIC_KEY}: this is not the public half of {SIGNING_KEY}; delete the one that is wrong"
        )
    return DefaultKeys(folder, key_from_file(folder / ENCRYPTION_KEY), signing, tuple(made))


def default_encryption_key() -> EncryptionKey:
    """The default encryption key; never made here.

    Raises:
        InputError: There is none, or it is unusable.
    """
    return key_from_file(_existing(ENCRYPTION_KEY, "key", "--key FILE"))


def default_policy() -> TrustPolicy:
    """Trust in the default signing key; never made here.

    Raises:
        InputError: There is none, it is unusable, or others may replace it.
    """
    return TrustPolicy((default_public_key(),))


def default_public_key() -> PublicKey:
    """The public half of the default signing key; never made here.

    Raises:
        InputError: There is none, it is unusable, or others may replace it.
    """
    return public_key_from_file(_existing(PUBLIC_KEY, "trusted signer", "--trust PUBKEY"))


def _existing(name: str, what: str, option: str) -> Path:
    path = Path(os.path.realpath(configuration_folder())) / name
    if not path.exists():
        raise InputError(
            f"no {what} is given and {path} does not exist; give {option} or make keys with 'hauberk keys new'"
        )
    _refuse_open(path.parent)
    _refuse_open(path)
    return path


def _refuse_open(path: Path) -> None:
    """Whoever can write to the folder, or to a file in it, can put a key of theirs where ours is trusted."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in {os.geteuid(), 0}:
        raise InputError(f"{path}: it belongs to another user, who could replace the keys; use a folder of your own")
    if mode & 0o022:
        raise InputError(
            f"{path}: mode {mode:04o} lets others replace the keys; keys need a folder of their own (chmod 700)"
            " and files that nobody else may write (chmod go-w)"
        )


def _make(path: Path, content: bytes, *, mode: int) -> list[Path]:
    return [path] if write_once(path, content, mode=mode) else []
