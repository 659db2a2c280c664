"""The `.hbk` format: one bounded reader, one writer.

What writing needs is fetched when it is first used (PEP 562): production only reads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hauberk.bundle.manifest import Manifest
from hauberk.bundle.read import OpenedBundle, VerifiedBundle, decode_bundle, read_bundle

if TYPE_CHECKING:
    from hauberk.bundle.contents import BundleContents
    from hauberk.bundle.write import encode_bundle, write_bundle

_LATER = {
    "BundleContents": "hauberk.bundle.contents",
    "encode_bundle": "hauberk.bundle.write",
    "write_bundle": "hauberk.bundle.write",
}

__all__ = [
    "BundleContents",
    "Manifest",
    "OpenedBundle",
    "VerifiedBundle",
    "decode_bundle",
    "encode_bundle",
    "read_bundle",
    "write_bundle",
]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
