"""The `.hbk` format: one bounded reader, one writer."""

from hauberk.bundle.contents import BundleContents
from hauberk.bundle.manifest import Manifest
from hauberk.bundle.read import OpenedBundle, VerifiedBundle, decode_bundle, read_bundle
from hauberk.bundle.write import encode_bundle, write_bundle

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
