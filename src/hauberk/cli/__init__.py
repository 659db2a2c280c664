"""The command line: one file a command, thin. A command's floor is imported when it runs, not for `--help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import hauberk
from hauberk.cli.interrupt import persistent_interrupt
from hauberk.cli.output import Output
from hauberk.errors import HauberkError, MissingExtraError

_COMMANDS = {
    "scan": "say whether model files are safe to open",
    "train": "train a reference detector",
    "convert": "turn a model of another framework into ONNX or safetensors, and compare the two",
    "compress": "apply one recipe to a model and measure what it gains",
    "optimize": "apply verified passes to an ONNX file",
    "harden": "make a small, fast, encrypted and signed bundle of a detector",
    "evaluate": "measure how hard a model or a bundle is to evade, as it is deployed",
    "verify": "check a bundle's format and signature",
    "inspect": "show what a bundle holds",
    "predict": "score records with a bundle",
    "serve": "answer over HTTP with the Open Inference Protocol",
    "data": "list and describe the known data sets",
    "keys": "make and show keys",
}

# Which extra brings a package that a command may find missing.
_EXTRAS = {
    "granian": "serve",
    "jinja2": "harden",
    "ml_dtypes": "harden",
    "onnx": "harden",
    "onnx_ir": "harden",
    "onnxscript": "harden",
    "polars": "harden",
    "rich": "harden",
    "safetensors": "harden",
    "lightgbm": "trees",
    "xgboost": "trees",
    "torch": "harden",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `docs/how-to/command-line.md`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(words)
    options = parser.parse_args(words)
    logging.basicConfig(level=logging.DEBUG if options.debug else logging.WARNING, format="%(levelname)s %(message)s")
    output = Output(json=options.json)
    handler = signal.getsignal(signal.SIGINT) or signal.SIG_DFL  # none where it is not Python's
    try:
        with persistent_interrupt():
            return _run(options, output)
    except KeyboardInterrupt:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:
            # A second one was on its way: polars raises one of its own before Python's comes, or a user is impatient.
            # It comes instead of the change, which is why the change is made again.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with suppress(BrokenPipeError):  # nobody listens any more; the exit code says it
            output.error("interrupted")
        signal.signal(signal.SIGINT, handler)  # the process may be somebody else's
        return 130
    except BrokenPipeError:
        return 2
    except Exception as error:  # noqa: BLE001 - the last place that can turn an error into one clear line
        with suppress(BrokenPipeError):
            _report(error, output, debug=options.debug)
        return error.exit_code if isinstance(error, HauberkError) else 2


def _run(options: argparse.Namespace, output: Output) -> int:
    try:
        return int(options.run(options, output))
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # it came while Python 3.11 made a class
            raise KeyboardInterrupt from error
        raise


def _report(error: Exception, output: Output, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    known = _as_known(error)
    if known is None:
        output.error(f"internal error: {type(error).__name__}: {error} (run again with --debug and report it)")
    else:
        output.error(str(known))


def _as_known(error: Exception) -> HauberkError | None:
    """The error as one of ours, where it is one or has an obvious one-line meaning."""
    if isinstance(error, HauberkError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        extra = _EXTRAS[error.name]
        return MissingExtraError(f"this needs {error.name}, which is not installed: pip install 'hauberk[{extra}]'")
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return HauberkError(f"{where}{error.strerror}")
    return None


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hauberk", description="Detectors that are fast on the wire and hard for an adversary, with evidence."
    )
    parser.add_argument("--version", action="version", version=f"hauberk {hauberk.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        command.add_argument("--json", action="store_true", help="print one JSON document on standard output")
        command.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
        if name == asked:
            module = import_module(f"hauberk.cli.{name}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser
