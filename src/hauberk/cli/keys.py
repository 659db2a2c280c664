"""`hauberk keys new|show`: make keys, and show what may be shown of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.trust import DefaultKeys


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "exit codes: 0 done, 2 bad usage or input"
    parser.add_argument("action", choices=("new", "show"), help="make keys, or show public parts and fingerprints")
    parser.add_argument(
        "--out",
        "--folder",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="folder of the keys (default: $HAUBERK_HOME, else your configuration folder)",
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """Make or show keys; secrets are never printed."""
    from hauberk.trust import configuration_folder, default_keys
    from hauberk.trust.defaults import ENCRYPTION_KEY, SIGNING_KEY

    folder = options.folder or configuration_folder()
    there = [name for name in (ENCRYPTION_KEY, SIGNING_KEY) if (folder / name).exists()]
    if options.action == "new" and there:
        raise InputError(
            f"{folder}: {', '.join(there)} is there already and was left as it is; name a folder with --out"
        )
    if options.action == "show" and len(there) < 2:
        raise InputError(f"{folder}: there are no keys here; make them with 'hauberk keys new'")
    _show(default_keys(folder), output)
    return 0


def _show(keys: DefaultKeys, output: Output) -> None:
    public = keys.signing.public_key
    for path in keys.created:
        output.text(f"made {path}")
    output.text(f"encryption key  {keys.encryption.identifier}  (an identifier, not the key)")
    output.text(f"signing key     {public.fingerprint}")
    output.text()
    output.text(public.pem.decode().rstrip())
    output.document(
        {
            "folder": str(keys.folder),
            "created": [str(path) for path in keys.created],
            "encryption_key": keys.encryption.identifier,
            "fingerprint": public.fingerprint,
            "public_key": public.pem.decode(),
        }
    )
