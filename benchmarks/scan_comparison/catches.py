"""Who catches what: every scanner on the hostile corpus and on the honest files of tests/scan."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from scan_comparison.measure import TESTS
from scan_comparison.scanners import CATCHERS, OURS, Asked, Scanner, digest_of, python_of

_SECONDS = 20.0
"""Of processor time, for one case."""
_PROCESSES = os.cpu_count() or 1


_CLASSES = (
    ("pickles", "pickle_gadgets", "RUN", "functions that run code, behind one call"),
    ("pickles", "pickle_gadgets", "NAMED", "functions that run code, only named"),
    ("pickles", "pickle_structures", "RUN", "tricks with the pickle machine that end in a call"),
    ("pickles", "pickle_structures", "OTHERS", "tricks with the pickle machine that exhaust or mislead"),
    ("pickles", "pickle_carriers", "CASES", "numpy, joblib, torch's old format, streams, junk before"),
    ("pickles", "pickle_costs", "HOSTILE", "pickles that take too long, or too much, to load or to let go"),
    ("pickles", "pickle_numpy", "HOSTILE", "arrays and types that numpy should not have believed"),
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
    ("graphs", "graphs", "BOUNDS", "ONNX: sizes that cannot be told from the file"),
    ("graphs", "graphs", "KERNELS", "ONNX: kernels that leave their tensors"),
    ("graphs", "graphs", "TREES", "ONNX: trees that leave their tables"),
    ("frameworks", "frameworks_hdf5", "HDF5_CASES", "Keras and HDF5"),
    ("frameworks", "frameworks_keras", "KERAS_CASES", "Keras and HDF5"),
    ("frameworks", "frameworks_trees", "TREE_CASES", "skops and boosted trees"),
    ("frameworks", "frameworks_skops", "SKOPS_CASES", "skops and boosted trees"),
    ("frameworks", "frameworks_tensorflow", "TENSORFLOW_CASES", "TensorFlow, TFLite, GGUF"),
    ("frameworks", "frameworks_graphs", "GRAPH_CASES", "TensorFlow, TFLite, GGUF"),
    ("frameworks", "frameworks_tflite", "TFLITE_CASES", "TensorFlow, TFLite, GGUF"),
    ("frameworks", "frameworks_gguf", "GGUF_CASES", "TensorFlow, TFLite, GGUF"),
    ("frameworks", "frameworks_files", "FILE_CASES", "programs, sources, settings"),
    ("frameworks", "frameworks_text", "TEXT_CASES", "models and settings written as text"),
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
        certain: Dangerous is the only right answer. Other hostile cases are damaged or closed, or are dangerous only in
            some hands, and one who cannot tell is right.
    """

    area: str
    kind: str
    name: str
    hostile: bool
    reference: str
    words: dict[str, str]
    certain: bool = False


class Answered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scanner said, as it is kept.

    Attributes:
        scanner: Name.
        scanner_digest: See `digest_of`.
        case_digest: Of the case's files and their names.
        word: Likewise as in `Caught`.
    """

    scanner: str
    scanner_digest: str
    case_digest: str
    word: str


class Answers:
    """Answers of other scanners, kept in a file of JSON lines as they come: who is interrupted goes on where it was.

    Args:
        file: Is made where it is missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        data = file.read_bytes() if file.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:  # who was interrupted had not written its last line to the end
            file.write_bytes(whole)
        lines = whole.splitlines()
        kept = [msgspec.json.decode(line, type=Answered) for line in lines]
        self._words = {(each.scanner, each.scanner_digest, each.case_digest): each.word for each in kept}

    def of(self, scanner: Scanner, case_digest: str) -> str | None:
        """What it said of these bytes in these versions; `None` where it was not asked."""
        return self._words.get((scanner.name, digest_of(scanner), case_digest))

    def keep(self, scanner: Scanner, case_digest: str, word: str) -> None:
        """Keep an answer."""
        answered = Answered(scanner.name, digest_of(scanner), case_digest, word)
        with self._lock, self._file.open("ab") as file:
            file.write(msgspec.json.encode(answered) + b"\n")


def ask_all(environments: Path, answers: Answers) -> list[Caught]:
    """Make every case in a folder of its own, and ask every scanner about it, as many at a time as there are cores.

    Args:
        environments: Where environments lie.
        answers: Others are not asked again about the same bytes; ours always is.
    """
    kinds = _kinds()
    for scanner in CATCHERS:
        python_of(scanner, environments)  # built one by one, before anything runs side by side
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_PROCESSES) as workers:
        made = []
        for area, case, hostile, path in _make(Path(folder)):
            kind = kinds[area, case.name] if hostile else ""
            certain = hostile and case.expected == {"unsafe"}
            made.append((Caught(area, kind, case.name, hostile, case.reference, {}, certain), path, _digest(path)))
        parts = []
        for scanner in CATCHERS:
            unknown = [each for each in made if not _known(scanner, answers, each)]
            print(
                f"{scanner.name}: {len(made) - len(unknown)} cases known, {len(unknown)} to be asked", file=sys.stderr
            )
            parts += [(scanner, unknown[part::_PROCESSES]) for part in range(_PROCESSES)]
        for done in [workers.submit(_ask, scanner, environments, answers, part) for scanner, part in parts]:
            done.result()
    return [caught for caught, _, _ in made]


_Asking = tuple[Caught, Path, str]
"""A case, where it lies, its digest."""


def _known(scanner: Scanner, answers: Answers, asking: _Asking) -> bool:
    """Whether this was answered before; then it is filled in."""
    caught, _, digest = asking
    word = None if scanner.name == OURS else answers.of(scanner, digest)
    if word is not None:
        caught.words[scanner.name] = word
    return word is not None


def _ask(scanner: Scanner, environments: Path, answers: Answers, asking: Sequence[_Asking]) -> None:
    if not asking:
        return
    with Asked(scanner, environments) as asked:
        for caught, path, digest in asking:
            word = caught.words[scanner.name] = asked.scan([path], _SECONDS).words[0]
            if scanner.name != OURS and word != "died":  # which may have been the machine's fault: it is asked again
                answers.keep(scanner, digest, word)


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
