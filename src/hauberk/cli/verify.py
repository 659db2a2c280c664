"""`hauberk verify BUNDLE`: does every byte hold, who signed it, and what does the signer vouch for?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hauberk.cli import key_options
from hauberk.cli.output import Output
from hauberk.errors import TrustError

if TYPE_CHECKING:
    from hauberk.bundle import VerifiedBundle
    from hauberk.trust import EncryptionKey, Passphrase, TrustPolicy


class _Kept(msgspec.Struct):
    requirement: str
    holds: bool


class _Vouched(msgspec.Struct):
    """What is shown of the public evidence (docs/reference/evidence.md); fields of later versions are passed over."""

    created: str
    versions: dict[str, str]
    met: bool
    requirements: tuple[_Kept, ...]


_EPILOG = "exit codes: 0 verified, 1 not verified, 2 error (no such file, no signer to trust, an unusable key)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .hbk file")
    key_options.configure_opening(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Verify; with a key also decrypt and authenticate everything."""
    policy = key_options.resolve_policy(options)
    key = key_options.resolve_key(options)
    try:
        bundle, statement = _verify(options.bundle, policy, key)
    except TrustError as error:
        output.error(f"not verified: {error}")
        output.document({"bundle": str(options.bundle), "verified": False, "reason": str(error)})
        return 1
    _show(options.bundle, bundle, statement, output, decrypted=key is not None)
    return 0


def _verify(
    path: Path, policy: TrustPolicy | None, key: EncryptionKey | Passphrase | None
) -> tuple[VerifiedBundle, dict[str, Any]]:
    from hauberk.bundle import read_bundle

    bundle = read_bundle(path, policy)
    statement = bundle.public_evidence()
    if key is not None:
        bundle.audit(key)
    return bundle, statement


def _show(path: Path, bundle: VerifiedBundle, statement: dict[str, Any], output: Output, *, decrypted: bool) -> None:
    manifest = bundle.manifest
    output.text(f"verified    {path}: every byte is what the signer signed")
    if decrypted:
        output.text("decrypted   model, schema and evidence are authentic under this key and belong together")
    output.text(f"signed by   {bundle.signer.fingerprint}")
    output.text(f"detector    {manifest.name}, format {manifest.format}, mode {manifest.mode}")
    output.text(f"needs       {manifest.needs.backend} {manifest.needs.version} or newer")
    _show_evidence(statement, output)
    output.document(
        {
            "bundle": str(path),
            "verified": True,
            "decrypted": decrypted,
            "signer": bundle.signer.fingerprint,
            "name": manifest.name,
            "format": manifest.format,
            "mode": manifest.mode,
            "needs": manifest.needs,
            "statement": statement,
        }
    )


def _show_evidence(statement: dict[str, Any], output: Output) -> None:
    """What the signer vouches for."""
    try:
        vouched = msgspec.convert(statement.get("predicate"), _Vouched)
    except msgspec.ValidationError:
        output.text(f"evidence    of a kind that is not known here: {statement.get('predicateType')}")
        return
    output.text(f"created     {vouched.created}")
    output.text(f"made with   {', '.join(f'{name} {version}' for name, version in vouched.versions.items())}")
    if vouched.requirements:
        output.text(f"vouches     {'for every requirement' if vouched.met else 'for some requirements only'}:")
    for kept in vouched.requirements:
        output.text(f"  {'met   ' if kept.holds else 'MISSED'}    {kept.requirement}")
