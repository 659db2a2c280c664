"""Who catches what: every scanner on the hostile corpus and on the honest files of tests/scan."""

from __future__ import annotations

import hashlib
import importlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from scan_comparison.measure import TESTS
from scan_comparison.scanners import CATCHERS, OURS, Asked

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
        digest: Of its files and their names; answers of other scanners are kept while it and their versions stay.
        words: By scanner: `flagged`, `clean`, `undecided` or `died`.
    """

    area: str
    kind: str
    name: str
    hostile: bool
    reference: str
    digest: str
    words: dict[str, str]


def ask_all(environments: Path, known: Sequence[Caught] = ()) -> list[Caught]:
    """Make every case in a folder of its own, and ask every scanner about it.

    Args:
        environments: Where environments lie.
        known: What was answered before; others are not asked again about the same bytes, ours always is.
    """
    kinds, before = _kinds(), {(case.area, case.name, case.digest): case.words for case in known}
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for area, case, hostile, path in _make(Path(folder)):
            kind, digest = kinds.get((area, case.name), ""), _digest(path)
            words = dict(before.get((area, case.name, digest), {}))
            words.pop(OURS, None)
            made.append((Caught(area, kind, case.name, hostile, case.reference, digest, words), path))
        for scanner in CATCHERS:
            unknown = [(caught, path) for caught, path in made if scanner.name not in caught.words]
            if unknown:
                with Asked(scanner, environments) as asked:
                    for caught, path in unknown:
                        caught.words[scanner.name] = asked.scan([path], _SECONDS).words[0]
            print(f"{scanner.name}: asked about {len(unknown)} cases", file=sys.stderr)
    return [caught for caught, _ in made]


def _digest(path: Path) -> str:
    """SHA-256 (hex) of a file, or of all files in a folder with their names; of links, where they lead."""
    found = hashlib.sha256(path.name.encode())
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        inside = str(file.readlink()) if file.is_symlink() else file.name
        content = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
        found.update(hashlib.sha256(inside.encode()).digest() + hashlib.sha256(content).digest())
    return found.hexdigest()


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


def _make(folder: Path) -> Iterator[tuple[str, Any, bool, Path]]:
    _find_corpus()
    corpus = importlib.import_module("corpus")
    for areas, hostile in ((corpus.HOSTILE, True), (corpus.HONEST, False)):
        for area, case in corpus.cases(areas):
            place = folder / area / case.name
            place.mkdir(parents=True)
            try:
                yield area, case, hostile, case.make(place)
            except ImportError as error:
                print(f"{area}: {case.name} needs {error.name}, which is not installed", file=sys.stderr)
