"""The options about keys that several commands share. No secret is ever an argument: arguments are seen by everyone.

A command that reads bundles (`verify`, `inspect`, `predict`, `serve`):

    configure_opening(parser)                 in `configure`
    key = resolve_key(options)                EncryptionKey | Passphrase | None: None where no option was given
    policy = resolve_policy(options)          TrustPolicy | None: None where no option was given

`hauberk.open` and friends use the default keys for None. A command that writes bundles (`harden`):

    configure_sealing(parser)
    keys = resolve_sealing(options, output)   .encryption and .signing; default keys are made and the user is told
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.sealing import SealingKeys
    from hauberk.trust import EncryptionKey, Passphrase, TrustPolicy


def configure_opening(parser: argparse.ArgumentParser) -> None:
    """Declare where the key comes from and whose signature counts."""
    group = _configure_key(parser)
    group.add_argument(
        "--trust",
        "--signer",
        dest="trust",
        type=Path,
        metavar="PUBKEY",
        action="append",
        default=[],
        help="public key (PEM) whose signature counts; repeatable (default: your own)",
    )


def configure_sealing(parser: argparse.ArgumentParser) -> None:
    """Declare where the encryption key and the signing key come from."""
    group = _configure_key(parser)
    group.add_argument(
        "--signing-key", type=Path, metavar="FILE", help="EC P-256 private key (PEM) to sign with (default: your own)"
    )


def resolve_key(options: argparse.Namespace) -> EncryptionKey | Passphrase | None:
    """The key that the options name; `None` where they name none.

    Raises:
        InputError: The file, the variable or what was typed is no key.
    """
    from hauberk.trust import Passphrase, key_from_environment, key_from_file, passphrase_from_environment

    if options.key is not None:
        return key_from_file(options.key)
    if options.key_env is not None:
        return key_from_environment(options.key_env)
    if options.passphrase_env is not None:
        return passphrase_from_environment(options.passphrase_env)
    if options.passphrase:
        return Passphrase(_ask("Passphrase: "))
    return None


def resolve_policy(options: argparse.Namespace) -> TrustPolicy | None:
    """Trust in the signers that the options name; `None` where they name none.

    Raises:
        InputError: A file is no public key.
    """
    from hauberk.trust import TrustPolicy, public_key_from_file

    signers = tuple(public_key_from_file(path) for path in options.trust)
    return TrustPolicy(signers) if signers else None


def resolve_sealing(options: argparse.Namespace, output: Output) -> SealingKeys:
    """The keys to seal with; default keys fill in for what the options leave out, and are made where there are none.

    Raises:
        InputError: A key is unusable, or the folder for default keys is.
    """
    from hauberk.sealing import SealingKeys
    from hauberk.trust import default_keys, signing_key_from_file

    encryption = _ask_twice() if options.passphrase else resolve_key(options)
    signing = signing_key_from_file(options.signing_key) if options.signing_key else None
    if encryption is not None and signing is not None:
        return SealingKeys(encryption, signing)
    defaults = default_keys()
    if defaults.created:
        output.note(f"made new keys in {defaults.folder}: {', '.join(path.name for path in defaults.created)}")
        output.note("keep a copy of them: without encryption.key no bundle that it seals can be opened again")
    return SealingKeys(encryption or defaults.encryption, signing or defaults.signing)


def _configure_key(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("keys")
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--key", type=Path, metavar="FILE", help="encryption key: a file of 64 hexadecimal digits (default: your own)"
    )
    source.add_argument("--key-env", metavar="NAME", help="environment variable that holds the encryption key")
    source.add_argument("--passphrase", action="store_true", help="ask for a passphrase instead of using a key")
    source.add_argument("--passphrase-env", metavar="NAME", help="environment variable that holds a passphrase")
    return group


def _ask(prompt: str) -> str:
    import getpass
    import sys

    if not sys.stdin.isatty():
        raise InputError("--passphrase: there is no terminal to ask at; use --passphrase-env NAME")
    return getpass.getpass(prompt)


def _ask_twice() -> Passphrase:
    from hauberk.trust import Passphrase

    passphrase = Passphrase(_ask("New passphrase: "))
    if passphrase != Passphrase(_ask("The same again: ")):
        raise InputError("--passphrase: the two differ; try again")
    return passphrase
