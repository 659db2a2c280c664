"""`hauberk inspect BUNDLE`: what a bundle holds, once its signature holds; more of it for those with the key."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hauberk.cli import key_options
from hauberk.cli.output import Output
from hauberk.errors import InputError, TrustError

if TYPE_CHECKING:
    from hauberk.bundle import Manifest, OpenedBundle, VerifiedBundle
    from hauberk.schema import Feature, RecordSchema
    from hauberk.tensors import TensorSpec
    from hauberk.trust import EncryptionKey, Passphrase

_UNITS = ((1 << 20, "MiB"), (1 << 10, "KiB"))


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "exit codes: 0 shown, 2 bad usage or input, or a bundle that does not verify"
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .hbk file")
    parser.add_argument(
        "--extract",
        type=Path,
        metavar="FOLDER",
        help="unpack the members as they are (encrypted), as the public model_signing tool verifies them",
    )
    parser.add_argument(
        "--evidence", type=Path, metavar="FOLDER", help="with the key: write the decrypted evidence, report included"
    )
    key_options.configure_opening(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Show the bundle and write the folders that are asked for."""
    from hauberk.bundle import read_bundle
    from hauberk.files import write_folder

    bundle = read_bundle(options.bundle, key_options.resolve_policy(options))
    key = _key(bundle, options)
    if options.evidence and key is None:
        raise InputError("--evidence: the evidence is encrypted; give the key with --key FILE")
    opened = None if key is None else bundle.unlock(key)
    evidence = {} if key is None else bundle.evidence(key)
    _show_outside(bundle, output)
    if opened is not None:
        _show_inside(opened, evidence, output)
    if options.extract:
        write_folder(options.extract, bundle.members)
        output.text(f"\nmembers   {options.extract}")
    if options.evidence:
        write_folder(options.evidence, evidence)
        output.text(f"\nevidence  {options.evidence}")
    output.document(_document(bundle, opened, evidence))
    return 0


def _key(bundle: VerifiedBundle, options: argparse.Namespace) -> EncryptionKey | Passphrase | None:
    """The key that was named, else one's own where it is the right one."""
    from hauberk.bundle.sealing import bundle_key
    from hauberk.trust import default_encryption_key

    named = key_options.resolve_key(options)
    if named is not None:
        return named
    try:
        own = default_encryption_key()
        bundle_key(bundle.manifest.encryption, own)
    except (InputError, TrustError):
        return None
    return own


def _show_outside(bundle: VerifiedBundle, output: Output) -> None:
    manifest = bundle.manifest
    opsets = ", ".join(f"{domain} {version}" for domain, version in manifest.needs.opsets.items())
    output.text(f"detector   {manifest.name}")
    output.text(f"signed by  {bundle.signer.fingerprint}")
    output.text(f"format     {manifest.format}, mode {manifest.mode}")
    output.text(f"needs      {manifest.needs.backend} {manifest.needs.version} or newer; operator sets {opsets}")
    output.text(f"takes      {_tensors(manifest.inputs)}")
    output.text(f"gives      {_tensors(manifest.outputs)}")
    output.text(f"sealed     {manifest.encryption.cipher}, with {_sealed_with(manifest)}")
    output.text()
    output.table(("member", "size"), [(name, _size(len(content))) for name, content in bundle.members.items()])


def _show_inside(opened: OpenedBundle, evidence: dict[str, bytes], output: Output) -> None:
    schema = opened.schema
    output.text(f"\nalert from score {opened.threshold:g} on")
    if schema.label is not None:
        output.text(f"classes    {', '.join(schema.label.classes)} ({schema.label.benign} is benign)")
    output.text()
    output.table(("column", "type", "values", "adversary"), [_column(feature) for feature in schema.features])
    if evidence:
        output.text()
        output.table(("evidence", "size"), [(name, _size(len(content))) for name, content in evidence.items()])


def _document(bundle: VerifiedBundle, opened: OpenedBundle | None, evidence: dict[str, bytes]) -> dict[str, Any]:
    inside: dict[str, Any] = {}
    if opened is not None:
        schema: RecordSchema = opened.schema
        inside = {
            "threshold": opened.threshold,
            "schema": schema,
            "evidence": {name: len(evidence[name]) for name in evidence},
        }
    return {
        "signer": bundle.signer.fingerprint,
        "manifest": bundle.manifest,
        "statement": bundle.public_evidence(),
        "sizes": {name: len(content) for name, content in bundle.members.items()},
        **inside,
    }


def _column(feature: Feature) -> tuple[str, str, str, str]:
    from hauberk.schema import BooleanFeature, CategoricalFeature

    kind = str(feature.__struct_config__.tag)
    if isinstance(feature, CategoricalFeature):
        values = f"{len(feature.categories)} categories"
    elif isinstance(feature, BooleanFeature):
        values = "0 or 1"
    else:
        values = f"{feature.low:g} to {feature.high:g}"
    return feature.name, kind, values, "can change it" if feature.mutable else "cannot change it"


def _tensors(specs: tuple[TensorSpec, ...]) -> str:
    return "; ".join(f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]" for spec in specs)


def _sealed_with(manifest: Manifest) -> str:
    from hauberk.bundle.manifest import Direct

    derivation = manifest.encryption.derivation
    return "a key" if isinstance(derivation, Direct) else f"a passphrase ({derivation.__struct_config__.tag})"


def _size(size: int) -> str:
    for factor, unit in _UNITS:
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
