"""Who catches what: every scanner on the hostile corpus and on the honest files of tests/scan."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from scan_comparison.measure import TESTS
from scan_comparison.scanners import CATCHERS, Asked

_SECONDS = 60.0
"""For one case."""


_CLASSES = (
    ("pickles", "pickle_gadgets", "RUN", "functions that run code, behind one call"),
    ("pickles", "pickle_gadgets", "NAMED", "functions that run code, only named"),
    ("pickles", "pickle_structures", "RUN", "tricks with the pickle machine that end in a call"),
    ("pickles", "pickle_structures", "OTHERS", "tricks with the pickle machine that exhaust or mislead"),
    ("pickles", "pickle_carriers", "CASES", "numpy, joblib, torch's old format, streams, junk before"),
    ("pickles", "pickle_models", "CASES", "fitted models whose tables lead native code astray"),
    ("archives", "hostile_zips", "CASES", "zip archives"),
    ("archives", "hostile_torch", "CASES", "torch checkpoints, TorchScript, exported programs"),
    ("archives", "hostile_tars", "CASES", "tar archives and compressed streams"),
    ("archives", "hostile_safetensors", "CASES", "safetensors and polyglots"),
    ("graphs", "graphs", "MESSAGES", "ONNX: messages read in two ways"),
    ("graphs", "graphs", "TENSORS", "ONNX: tensors"),
    ("graphs", "graphs", "EXTERNAL", "ONNX: weights elsewhere"),
    ("graphs", "graphs", "OPERATORS", "ONNX: operators that act"),
    ("graphs", "graphs", "STRUCTURE", "ONNX: structure"),
    ("graphs", "graphs", "COSTS", "ONNX: bombs"),
    ("frameworks", "frameworks_keras", "KERAS_CASES", "Keras and HDF5"),
    ("frameworks", "frameworks_trees", "TREE_CASES", "skops and boosted trees"),
    ("frameworks", "frameworks_graphs", "GRAPH_CASES", "TensorFlow, TFLite, GGUF"),
    ("frameworks", "frameworks_files", "FILE_CASES", "programs, sources, settings"),
)
"""Where the corpus keeps its classes: area, module, attribute, what it is called here."""


class Caught(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the scanners say of one case.

    Attributes:
        area: Module of the corpus.
        kind: What class of tricks it belongs to; empty for honest files.
        name: Of the case.
        hostile: Or honest.
        reference: Where the trick was published; empty where nowhere.
        words: By scanner: `flagged`, `clean`, `undecided` or `died`.
    """

    area: str
    kind: str
    name: str
    hostile: bool
    reference: str
    words: dict[str, str]


def ask_all(environments: Path, *, only: str = "") -> list[Caught]:
    """Make every case in a folder of its own, and ask every scanner about it.

    Args:
        environments: Where environments lie.
        only: Areas whose name has this in it.
    """
    found: dict[tuple[str, str], Caught] = {}
    kinds = _kinds()
    with tempfile.TemporaryDirectory() as folder:
        made = list(_make(Path(folder), only))
        for scanner in CATCHERS:
            with Asked(scanner, environments) as asked:
                for area, case, hostile, path in made:
                    word = asked.scan([path], _SECONDS).words[0]
                    known = found.setdefault(
                        (area, case.name),
                        Caught(area, kinds.get((area, case.name), ""), case.name, hostile, case.reference, {}),
                    )
                    known.words[scanner.name] = word
            print(f"{scanner.name}: asked about {len(made)} cases", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
    return list(found.values())


def _kinds() -> dict[tuple[str, str], str]:
    """Of every hostile case, by area and name: the class of tricks that the corpus keeps it under."""
    _find_corpus()
    found = {}
    for area, module, attribute, kind in _CLASSES:
        for entry in getattr(importlib.import_module(f"corpus.{module}"), attribute):
            found[area, entry if isinstance(entry, str) else entry.name] = kind
    return found


def _find_corpus() -> None:
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))


def _make(folder: Path, only: str) -> Iterator[tuple[str, Any, bool, Path]]:
    _find_corpus()
    corpus = importlib.import_module("corpus")
    for areas, hostile in ((corpus.HOSTILE, True), (corpus.HONEST, False)):
        for area, case in corpus.cases(tuple(area for area in areas if only in area)):
            place = folder / area / case.name
            place.mkdir(parents=True)
            try:
                yield area, case, hostile, case.make(place)
            except ImportError as error:
                print(f"{area}: {case.name} needs {error.name}, which is not installed", file=sys.stderr)
