"""What decides a result besides data and parameters: the sources and versions of what made it and of what measured it.

A model or a result that an earlier run left is taken again only while these digests are what they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec

import hauberk

_LIBRARY = Path(hauberk.__file__).parent
_BENCHMARKS = Path(__file__).parents[1]

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "torch", "openvino", "nncf")

_MAKING = (
    *(_LIBRARY / room for room in ("attacks", "compress", "graph", "models", "schema", "train")),
    *(_LIBRARY / file for file in ("artifact.py", "recipe.py", "tensors.py")),
    _BENCHMARKS / "comparison" / "methods.py",
)
_MEASURING = (
    *(_LIBRARY / room for room in ("backends", "data", "evaluate/latency.py")),
    *(
        _BENCHMARKS / "comparison" / f"{name}.py"
        for name in ("detectors", "engines", "measure", "recommend", "results")
    ),
    _BENCHMARKS / "subjects.py",
    _BENCHMARKS / "peers",
)


@cache
def of_making() -> str:
    """SHA-256 (hex) of all that makes a model of a detector: steps, passes, training, and the libraries below them."""
    return _digest(_MAKING)


@cache
def of_measuring() -> str:
    """SHA-256 (hex) of all that makes a result: models, detectors, peers, engines, timing, and how rows are chosen."""
    return _digest((*_MAKING, *_MEASURING))


def versions() -> dict[str, str]:
    """The versions of the libraries that models are made and run with, those of them that are installed."""
    installed = {distribution.name: distribution.version for distribution in metadata.distributions()}
    return {name: installed[name] for name in _LIBRARIES if name in installed}


def _digest(places: Iterable[Path]) -> str:
    found = hashlib.sha256(msgspec.json.encode(versions()))
    for place in places:
        files = [place] if place.is_file() else sorted([*place.rglob("*.py"), *place.rglob("*.txt")])
        for file in files:
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
