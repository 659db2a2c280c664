"""Models of other frameworks, read, converted and asked in an isolated process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hauberk.artifact import OnnxArtifact
from hauberk.convert.admission import Admitted, Kind, admit_graph
from hauberk.convert.compare import Source
from hauberk.convert.converted import Converted
from hauberk.convert.isolated import Isolated, require
from hauberk.convert.messages import Setup
from hauberk.convert.modules import graph_of, rule_of
from hauberk.convert.trees.edges import edges, missing, splits_of_graph
from hauberk.files import write_atomically
from hauberk.graph.model import parse
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Trial

PROBABILITIES = "compared as probabilities"
"""How a note ends that says that outputs are logarithms of probabilities."""

_COMMAND_LINE = "/proc/self/cmdline"
"""TensorFlow looks there for the name of its program, and ends the process where it may not."""

_TENSORFLOW = ("tensorflow", "tf2onnx")


@dataclass(frozen=True)
class _Framework:
    """Which module reads a kind of file, and what has to be installed for it.

    Attributes:
        module: Of `hauberk.convert.frameworks`.
        packages: That it imports.
        extra: That brings them.
        suffix: Of the private copy on disk, for frameworks that read nothing else; empty where bytes will do.
    """

    module: str
    packages: tuple[str, ...]
    extra: str
    suffix: str = ""


_FRAMEWORKS: dict[Kind, _Framework] = {
    "skops": _Framework("sklearn", ("sklearn", "skops", "skl2onnx"), "sklearn"),
    "keras": _Framework("keras", _TENSORFLOW, "tensorflow", ".keras"),
    "keras-h5": _Framework("keras", _TENSORFLOW, "tensorflow", ".h5"),
    "savedmodel": _Framework("savedmodel", _TENSORFLOW, "tensorflow"),
    "tflite": _Framework("tflite", _TENSORFLOW, "tensorflow", ".tflite"),
    "torchscript": _Framework("torchscript", ("torch",), "harden"),
    "pt2": _Framework("pt2", ("torch",), "harden"),
}


def of_its_kind(graph: OnnxArtifact, source: Source, kind: Kind, given: Samples, seed: int) -> list[Trial]:
    """What trees call for, where the graph has trees that look at its input; else what is missing, where that is taken.

    An estimator says by its answer whether it takes missing values: a step may fill them in, or trees behind a step
    send them somewhere. A network answers NaN with NaN, which says nothing.
    """
    splits = splits_of_graph(parse(graph.model))
    (spec, *_) = graph.signature.inputs
    width = spec.shape[-1]
    if not isinstance(width, int):
        return []
    if splits:
        return edges(splits, width, given, seed, spec.name)
    trials = [missing(width, given, seed, spec.name)] if kind == "skops" else []
    return [trial for trial in trials if source.takes(trial.feeds)]


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
    with ExitStack() as stack:
        path = file.folder
        if framework.suffix:
            path = Path(stack.enter_context(TemporaryDirectory(prefix="hauberk-convert-"))) / f"model{framework.suffix}"
            write_atomically(path, file.content(), mode=0o400)
        setup = Setup(framework.module, b"" if path else file.content(), str(path or ""))
        isolated = stack.enter_context(Isolated(setup, where, (str(path), _COMMAND_LINE) if path else ()))
        answer = isolated.convert()
        admit_graph(answer.model, where)
        graph = graph_of(answer.model, file.sha256, where)
        gaps = tuple(f"this kernel could not keep the isolated process from: {gap}" for gap in isolated.gaps)
        source = Source(
            isolated.answer,
            isolated.greeting.version,
            rule_of(graph.signature, "log-odds" if graph.signature.outputs[0].name == "logits" else None),
            view=np.exp if any(note.endswith(PROBABILITIES) for note in answer.notes) else None,
        )
        yield Converted(
            model=graph.model,
            signature=graph.signature,
            source=source,
            of_its_kind=lambda given, seed: of_its_kind(graph, source, file.kind, given, seed),
            notes=(*isolated.greeting.notes, *answer.notes, *gaps),
        )
