"""From a bundle on the disk to a detector that answers."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime

from hauberk.backends import Session, SessionOptions
from hauberk.bundle import Manifest, OpenedBundle, read_bundle
from hauberk.errors import HauberkError, InputError
from hauberk.runtime.detector import Detector
from hauberk.trust import EncryptionKey, Passphrase, TrustPolicy, default_encryption_key


def open(  # noqa: A001 - `hauberk.open` is what users type
    path: str | os.PathLike[str],
    *,
    key: EncryptionKey | Passphrase | None = None,
    trust: TrustPolicy | None = None,
    options: SessionOptions | None = None,
) -> Detector:
    """Verify a bundle, decrypt it and load its model.

    Args:
        path: The bundle.
        key: What it is encrypted with; by default the key in the user's configuration folder.
        trust: Whose signature counts; by default that of the key in the user's configuration folder.
        options: Threads and limits of the model.

    Raises:
        InputError: The file cannot be read, there is no default key, or this machine cannot run the model.
        TrustError: The signature does not hold, its signer is not trusted, or the key is wrong.
        LimitError: Loading the model needs more memory than `options` allow.
    """
    path = Path(path)
    opened = _unlock(path, key, trust)
    _check_backend(opened.manifest)
    try:
        session = Session(opened.model, options)
        return Detector(opened.manifest, opened.schema, opened.threshold, session)
    except HauberkError as error:
        raise type(error)(f"{path}: {error}") from error


def _unlock(path: Path, key: EncryptionKey | Passphrase | None, trust: TrustPolicy | None) -> OpenedBundle:
    """The decrypted bundle; the encrypted one is dropped on return, before the model is loaded a second time."""
    verified = read_bundle(path, trust)
    return verified.unlock(default_encryption_key() if key is None else key)


def _check_backend(manifest: Manifest) -> None:
    needed, present = manifest.needs.version, onnxruntime.__version__
    if _numbers(present) < _numbers(needed):
        raise InputError(f"detector {manifest.name!r} needs ONNX Runtime {needed} or newer, this is {present}")


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor version."""
    return tuple(int(part) for part in version.split(".")[:2])
