"""The options about records, and about bringing a model, that several commands share.

`configure_columns` says what the columns of a table mean; `configure_model` says what a model file does not say itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure_columns(parser: argparse.ArgumentParser) -> None:
    """Declare what the columns of a table mean."""
    parser.add_argument("--label", metavar="COLUMN", help="label column (default: by name, else the last)")
    parser.add_argument("--benign", metavar="CLASS", help="the class that is no attack (default: by name)")
    parser.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave a column out; repeatable")


def configure_model(parser: argparse.ArgumentParser) -> None:
    """Declare what a model file does not say itself."""
    parser.add_argument("--card", type=Path, metavar="FILE", help="model card (default: beside the model)")
    parser.add_argument("--arch", metavar="FILE.py:CALLABLE", help="your own code that builds the network")
    parser.add_argument(
        "--preprocessing",
        choices=("none", "minmax", "log-minmax", "standard"),
        default="none",
        help="what a model without a card expects its numbers to have gone through (default: none)",
    )
