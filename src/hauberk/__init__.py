"""Hauberk: detectors that are fast on the wire and hard for an adversary, with evidence.

Importing this package imports nothing else; each name below is fetched from its room when it is first used (PEP 562).
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hauberk.errors import HauberkError as HauberkError
    from hauberk.hardening import harden as harden
    from hauberk.runtime import Detector as Detector
    from hauberk.runtime import Prediction as Prediction
    from hauberk.runtime import open as open  # noqa: A004

__version__ = "0.1.0"

# ONNX Runtime 1.31 reports sessions and models to its maker and writes a device identifier into the home folder, unless
# this is set before it is imported. It stands here because every room is imported after this file; who wants to send
# the reports sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_ROOMS = {
    "HauberkError": "hauberk.errors",
    "harden": "hauberk.hardening",
    "Detector": "hauberk.runtime",
    "Prediction": "hauberk.runtime",
    "open": "hauberk.runtime",
}

__all__ = ["Detector", "HauberkError", "Prediction", "harden", "open"]


def __getattr__(name: str) -> object:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'hauberk' has no attribute {name!r}")
    return getattr(import_module(room), name)


def __dir__() -> list[str]:
    return sorted([*_ROOMS, "__version__"])
