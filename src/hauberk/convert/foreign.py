"""Models of other frameworks, read, converted and asked in an isolated process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hauberk.convert.admission import Admitted, Kind, admit_graph
from hauberk.convert.compare import Source
from hauberk.convert.converted import Converted
from hauberk.convert.isolated import Isolated, require
from hauberk.convert.messages import Setup
from hauberk.convert.modules import graph_of, rule_of

_TENSORFLOW = ("tensorflow", "tf2onnx")


@dataclass(frozen=True)
class _Framework:
    """Which module reads a kind of file, and what has to be installed for it.

    Attributes:
        module: Of `hauberk.convert.frameworks`.
        packages: That it imports.
        extra: That brings them.
        extremes: Whether extremes are judged.
    """

    module: str
    packages: tuple[str, ...]
    extra: str
    extremes: bool = False


_FRAMEWORKS: dict[Kind, _Framework] = {
    "skops": _Framework("sklearn", ("sklearn", "skops", "skl2onnx"), "sklearn"),
    "keras": _Framework("keras", _TENSORFLOW, "tensorflow"),
    "keras-h5": _Framework("keras", _TENSORFLOW, "tensorflow"),
    "savedmodel": _Framework("savedmodel", _TENSORFLOW, "tensorflow"),
    "tflite": _Framework("tflite", _TENSORFLOW, "tensorflow"),
    "torchscript": _Framework("torchscript", ("torch",), "harden"),
    "pt2": _Framework("pt2", ("torch",), "harden"),
}


@contextmanager
def from_foreign(file: Admitted) -> Iterator[Converted]:
    """Convert an admitted model in its own framework.

    Raises:
        MissingExtraError: The framework or its converter is not installed.
        RefusedModelError: The graph that came out is not admitted.
        InputError: The framework does not read the file, or its converter does not know the model.
        LimitError: It took more than it may.
    """
    framework, where = _FRAMEWORKS[file.kind], str(file.path)
    for package in framework.packages:
        require(package, framework.extra, f"{where}: converting {file.kind}")
    setup = Setup(
        framework.module,
        file.content() if file.folder is None else b"",
        str(file.folder or ""),
        {"kind": file.kind, "name": file.path.name},
    )
    readable = () if file.folder is None else (str(file.folder),)
    with Isolated(setup, where, readable) as isolated:
        answer = isolated.convert()
        admit_graph(answer.model, where)
        graph = graph_of(answer.model, file.sha256, where)
        gaps = tuple(f"this kernel could not keep the isolated process from: {gap}" for gap in isolated.gaps)
        yield Converted(
            model=graph.model,
            signature=graph.signature,
            source=Source(
                isolated.answer, isolated.greeting.version, rule_of(graph.signature), extremes=framework.extremes
            ),
            notes=(*isolated.greeting.notes, *answer.notes, *gaps),
        )
