"""Nothing is parsed before it is admitted: a private copy is scanned, then handed to a converter.

What the scan calls safe is converted. What it cannot decide is refused, with one exception: where "unknown" says
nothing but that the file is what its format is by nature (TorchScript holds a program), it is read and run in an
isolated process only, and only where the scan found nothing besides (`CONTAINED`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from hauberk.errors import InputError, RefusedModelError, one_line
from hauberk.files import open_below, read_bounded, write_atomically
from hauberk.ingest.isolated import scan
from hauberk.ingest.private import MAX_MODEL_BYTES, PrivateCopy
from hauberk.scan import FileReport, Verdict
from hauberk.scan.report import Outcome

Kind = Literal[
    "safetensors",
    "pytorch",
    "torchscript",
    "pt2",
    "onnx",
    "skops",
    "xgboost",
    "lightgbm",
    "keras",
    "keras-h5",
    "savedmodel",
    "tflite",
]

CONTAINED: dict[Kind, frozenset[str]] = {
    "torchscript": frozenset({"torchscript-code", "torch-storage-longer"}),
    "skops": frozenset({"skops-unchecked-indices"}),
}
"""What the scan leaves undecided of a kind and an isolated process is there for: that a TorchScript archive is a
program (traced ones share storages with their example inputs, too), and that compiled code of scikit-learn follows
indices of some trees without checking them."""

_RAW = frozenset({"scan-unrecognised"})
"""What the scan says of the files in which a SavedModel keeps its variables: a table of names and raw numbers, of no
format that it knows. TensorFlow reads them in an isolated process only."""

_KINDS: dict[str, Kind] = {
    "safetensors": "safetensors",
    "pytorch-zip": "pytorch",
    "pytorch-stream": "pytorch",
    "torchscript": "torchscript",
    "torch-exported-program": "pt2",
    "onnx": "onnx",
    "skops": "skops",
    "xgboost-json": "xgboost",
    "xgboost-ubjson": "xgboost",
    "lightgbm": "lightgbm",
    "keras": "keras",
    "keras-h5": "keras-h5",
    "hdf5": "keras-h5",
    "tflite": "tflite",
}
"""What is converted, by the scan's name of its format: what reads a file is what it was scanned as."""

_MOST_FILES = 10_000


@dataclass(frozen=True)
class Admitted:
    """A file that may be converted.

    Attributes:
        path: What the user named.
        kind: What it is, by its content.
        copy: Its bytes, sealed; `None` for a folder.
        folder: A private copy of the folder; `None` for a file.
        sha256: Of the file; of a folder, of the listing of its files.
        size: Bytes.
        verdict: What the scan said.
    """

    path: Path
    kind: Kind
    copy: PrivateCopy | None
    folder: Path | None
    sha256: str
    size: int
    verdict: Verdict

    def content(self) -> bytes:
        """The whole file.

        Raises:
            InputError: It is a folder.
        """
        if self.copy is None:
            raise InputError(f"{self.path}: a folder; a file is needed here")
        return self.copy.read(0, self.copy.size)


@contextmanager
def admitted(path: Path) -> Iterator[Admitted]:
    """Copy a file or a folder to where nobody else can change it, scan the copy, and say what it is.

    Raises:
        RefusedModelError: The scan finds something in it, or cannot decide; or it is of no kind that is converted.
        InputError: It cannot be read.
    """
    if path.is_dir():
        with TemporaryDirectory(prefix="hauberk-convert-") as folder:
            yield _folder(path, Path(folder))
        return
    with PrivateCopy(path) as copy:
        report = scan(copy)
        kind = _KINDS.get(report.format)
        _require_admissible(path, [report], CONTAINED.get(kind, frozenset()) if kind else frozenset())
        if kind is None:
            raise RefusedModelError(
                f"{path}: no model that is converted{f': {report.format}' if report.format else ''}"
            )
        yield Admitted(path, kind, copy, None, copy.sha256, copy.size, report.verdict)


def admit_graph(model: bytes, where: str) -> None:
    """Scan a graph, or tensors, that came out of an isolated process.

    Raises:
        RefusedModelError: The scan does not call it safe.
    """
    if not model:
        raise RefusedModelError(f"{where}: it was converted to nothing (0 bytes)")
    with PrivateCopy.of(model, Path(where)) as copy:
        report = scan(copy)
    if report.verdict is not Verdict.SAFE:
        raise RefusedModelError(f"{where}: what it was converted to is refused: {_why(report)}")
    if report.facts.get("external_files"):
        raise RefusedModelError(f"{where}: what it was converted to is refused: it has weights in other files")


def _folder(path: Path, target: Path) -> Admitted:
    """A SavedModel: every file copied, then scanned."""
    if not (path / "saved_model.pb").is_file():
        raise InputError(
            f"{path}: a folder without saved_model.pb; name a model file, a TensorFlow SavedModel, or the weights"
        )
    listing: list[str] = []
    names: list[Path] = []
    size = 0
    for number, file in enumerate(sorted(each for each in path.rglob("*") if each.is_file())):
        if number >= _MOST_FILES:
            raise RefusedModelError(f"{path}: refused: more than {_MOST_FILES} files")
        name = file.relative_to(path)
        content = _read_below(path, name, MAX_MODEL_BYTES - size)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target / name, content, mode=0o400)
        if content:
            names.append(name)
        listing.append(f"{hashlib.sha256(content).hexdigest()}  {name.as_posix()}\n")
        size += len(content)
    for name in names:
        with PrivateCopy(target / name) as copy:
            report = scan(copy)
        tensors = name.parts[0] == "variables" or name.as_posix() == "fingerprint.pb"
        _require_admissible(path / name, [report], _RAW if tensors else frozenset())
    digest = hashlib.sha256("".join(listing).encode()).hexdigest()
    return Admitted(path, "savedmodel", None, target, digest, size, Verdict.SAFE)


def _read_below(folder: Path, name: Path, limit: int) -> bytes:
    """A file of a folder, which may not be, or lie behind, a symbolic link."""
    try:
        descriptor, status = open_below(folder, name.as_posix())
    except (OSError, ValueError) as error:
        raise RefusedModelError(f"{folder}: refused: {name} is a link, or cannot be read: {one_line(error)}") from error
    try:
        if status.st_size > limit:
            raise InputError(f"{folder}: {name}: larger than {limit} bytes, the most that is read of what is left")
        return read_bounded(Path(f"/proc/self/fd/{descriptor}"), limit)
    finally:
        os.close(descriptor)


def _require_admissible(path: Path, reports: Sequence[FileReport], excused: frozenset[str]) -> None:
    """Refuse what the scan does not call safe, but for findings that say no more than "this is a program"."""
    for report in reports:
        counted = [finding for finding in report.findings if finding.outcome is not Outcome.NOTE]
        if report.verdict is Verdict.SAFE:
            continue
        if report.verdict is Verdict.UNKNOWN and not report.omitted and {each.rule for each in counted} <= excused:
            continue
        raise RefusedModelError(
            f"{path}: refused: the scan says {report.verdict}: {_why(report)}; nothing of it was run"
        )


def _why(report: FileReport) -> str:
    """The first finding that the verdict rests on."""
    worst = Outcome.UNSAFE if report.verdict is Verdict.UNSAFE else Outcome.UNKNOWN
    for finding in report.findings:
        if finding.outcome is worst:
            place = f" ({finding.where})" if finding.where else ""
            return f"{finding.rule}{place}: {finding.what}"
    return "see 'hauberk scan'"
