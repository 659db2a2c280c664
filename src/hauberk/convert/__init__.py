"""Convert: models of other frameworks become ONNX or safetensors, and the result is compared with its source.

Importing this package imports nothing else: an isolated process needs one framework and a few messages of it, and
neither torch nor what reads data (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hauberk.convert.findings import Comparison as Comparison
    from hauberk.convert.findings import Conversion as Conversion
    from hauberk.convert.findings import FamilyFigures as FamilyFigures
    from hauberk.convert.inputs import RealInputs as RealInputs
    from hauberk.convert.run import Wanted as Wanted
    from hauberk.convert.run import convert as convert

_ROOMS = {
    "Comparison": "findings",
    "Conversion": "findings",
    "FamilyFigures": "findings",
    "RealInputs": "inputs",
    "Wanted": "run",
    "convert": "run",
}

__all__ = ["Comparison", "Conversion", "FamilyFigures", "RealInputs", "Wanted", "convert"]


def __getattr__(name: str) -> object:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'hauberk.convert' has no attribute {name!r}")
    return getattr(import_module(f"hauberk.convert.{room}"), name)
