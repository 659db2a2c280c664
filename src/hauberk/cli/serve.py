"""`hauberk serve BUNDLE…`: answer over HTTP with the Open Inference Protocol v2."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli import key_options
from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.serve.server import Listening

_EPILOG = """\
The server stops on SIGTERM or Ctrl-C: it finishes requests under way and refuses new ones. With --json, standard output
gets one document, {"address": …, "models": […]}, as soon as requests are answered.
exit codes: 0 stopped as told, 2 bad usage or input
"""
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="one or more .hbk files")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8080, help="TCP port; 0 takes a free one (default: 8080)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes a model (default: 2)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads a request (default: 1)")
    parser.add_argument("--memory-limit", default="1G", metavar="SIZE", help="of one worker: 512M, 2G (default: 1G)")
    parser.add_argument(
        "--time-limit", type=float, default=10.0, metavar="SECONDS", help="of one request (default: 10)"
    )
    parser.add_argument(
        "--wait-limit", type=float, default=10.0, metavar="SECONDS", help="until a worker is free (default: 10)"
    )
    parser.add_argument("--max-batch", type=int, default=4096, metavar="N", help="records a request (default: 4096)")
    parser.add_argument("--max-body", default="16M", metavar="SIZE", help="of one request body (default: 16M)")
    parser.add_argument("--queue", type=int, default=256, metavar="N", help="requests a model that wait (default: 256)")
    key_options.configure_opening(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Serve until told to stop."""
    from hauberk.serve.options import ServeOptions
    from hauberk.serve.server import serve

    def on_listening(listening: Listening) -> None:
        output.note(f"listening on {listening.address}, serving {', '.join(listening.models)}")
        output.document(listening)
        sys.stdout.flush()

    serve(
        options.bundles,
        key=key_options.resolve_key(options),
        trust=key_options.resolve_policy(options),
        options=ServeOptions(
            host=options.host,
            port=options.port,
            workers=options.workers,
            threads=options.threads,
            memory_limit=_size("--memory-limit", options.memory_limit),
            time_limit=options.time_limit,
            wait_limit=options.wait_limit,
            most_records=options.max_batch,
            most_bytes=_size("--max-body", options.max_body),
            queue=options.queue,
        ),
        on_listening=on_listening,
    )
    return 0


def _size(option: str, text: str) -> int:
    """Bytes from a number with or without K, M or G (powers of 1024)."""
    number = text.strip().lower().removesuffix("b")
    unit = _UNITS.get(number[-1:], 1)
    digits = number[:-1] if number[-1:] in _UNITS else number
    if not (digits.isascii() and digits.isdigit()):
        raise InputError(f"{option}: {text!r} is not a size; try 512M or 2G")
    return int(digits) * unit
