"""The story of `hauberk convert`: admit, convert, compare with the source framework, write.

The result is written even where it differs from its source by more than the contract: then the comparison says so, with
the inputs that show it.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from hauberk.artifact import OnnxArtifact
from hauberk.convert.admission import Admitted, admitted
from hauberk.convert.compare import compare
from hauberk.convert.converted import Converted
from hauberk.convert.findings import Comparison, Conversion, ConvertedFile
from hauberk.convert.foreign import from_foreign
from hauberk.convert.inputs import RealInputs, samples, trials
from hauberk.convert.modules import from_graph, from_state_dict
from hauberk.convert.opset import at_opset, opset_of, require_opset
from hauberk.convert.trees.source import from_trees
from hauberk.convert.weights import read_tensors, written
from hauberk.errors import InputError
from hauberk.files import require_writable, write_atomically
from hauberk.graph.check import check_model
from hauberk.graph.harness import is_recurrent, survived
from hauberk.graph.model import OPSET, parse
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Feeds
from hauberk.ingest import find_card
from hauberk.models import WEIGHTS_FILE
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Context

Target = Literal["onnx", "safetensors"]

_SUFFIXES: dict[str, Target] = {".onnx": "onnx", ".safetensors": "safetensors"}


@dataclass(frozen=True)
class Wanted:
    """What a conversion is asked for besides its two files.

    Attributes:
        to: What to write; by default as the suffix of the file says.
        arch: `FILE.py:CALLABLE`, the user's own code that builds the module of a state dict.
        card: The model's card; by default the one beside it.
        real: Where real inputs come from.
        opset: Of the standard domain of an ONNX result.
        seed: Of everything drawn.
    """

    to: Target | None = None
    arch: str | None = None
    card: Path | None = None
    real: RealInputs = field(default_factory=RealInputs)
    opset: int = OPSET
    seed: int = 0


def convert(source: Path, out: Path, wanted: Wanted | None = None, *, progress: Progress = SILENT) -> Conversion:
    """Convert a model file to ONNX, or its tensors to safetensors, and compare the two.

    Args:
        source: The model: weights, TorchScript, an exported program, ONNX, skops, XGBoost, LightGBM, Keras, TFLite, or
            a folder that holds a SavedModel or that `hauberk train` wrote.
        out: The file to write; what is there is replaced once the result is complete.
        wanted: What is asked for besides.
        progress: Who follows.

    Returns:
        What was done, and how source and result compare; `comparison.holds` says whether the contract does. The file is
        written in either case.

    Raises:
        RefusedModelError: The scan does not call the file safe, or it is damaged.
        MissingExtraError: A framework is not installed; the message names the extra.
        InputError: An argument or the model is not what it should be; nothing was written.
        LimitError: The source framework took more time or memory than it may.
    """
    started = time.perf_counter()
    wanted = wanted or Wanted()
    target = _target(out, wanted.to)
    require_opset(wanted.opset)
    require_writable(out)
    if source.is_dir() and (source / WEIGHTS_FILE).is_file():
        wanted, source = replace(wanted, card=find_card(source, wanted.card)), source / WEIGHTS_FILE
    _require_apart(source, out, wanted)
    with ExitStack() as stack:
        with progress.task("admitting"):
            file = stack.enter_context(admitted(source))
        if target == "safetensors":
            return _to_safetensors(file, out, started)
        return _to_onnx(file, out, wanted, started, stack, progress)


def _to_safetensors(file: Admitted, out: Path, started: float) -> Conversion:
    tensors, notes = read_tensors(file)
    data, comparison = written(tensors, str(file.path))
    write_atomically(out, data)
    result = ConvertedFile(str(out), "safetensors", len(data), hashlib.sha256(data).hexdigest())
    return Conversion(
        source=_source(file),
        result=result,
        verdict=file.verdict,
        inputs=(),
        outputs=(),
        opset=None,
        tensors=len(tensors),
        comparison=comparison,
        notes=notes,
        seconds=time.perf_counter() - started,
    )


def _to_onnx(
    file: Admitted, out: Path, wanted: Wanted, started: float, stack: ExitStack, progress: Progress
) -> Conversion:
    with progress.task("converting"):
        converted = stack.enter_context(_opened(file, wanted))
        check_model(converted.model)
        given = samples(wanted.real, converted.signature, converted.card)
        model = _at_opset(converted, file, wanted, given)
    comparison = _compared(converted, model, wanted, given, progress)
    write_atomically(out, model)
    return Conversion(
        source=_source(file),
        result=ConvertedFile(str(out), "onnx", len(model), hashlib.sha256(model).hexdigest()),
        verdict=file.verdict,
        inputs=converted.signature.inputs,
        outputs=converted.signature.outputs,
        opset=opset_of(parse(model)),
        tensors=None,
        comparison=comparison,
        notes=converted.notes,
        seconds=time.perf_counter() - started,
    )


def _opened(file: Admitted, wanted: Wanted) -> AbstractContextManager[Converted]:
    """The graph and its source, by the kind of the file."""
    if file.kind in ("pytorch", "safetensors"):
        return from_state_dict(file, arch=wanted.arch, card=wanted.card)
    if wanted.arch:
        raise InputError(f"{file.path}: {file.kind} brings its own architecture; leave --arch away")
    if file.kind in ("xgboost", "lightgbm"):
        return from_trees(file.content(), file.kind, str(file.path), wanted.opset)
    return from_graph(file) if file.kind == "onnx" else from_foreign(file)


def _at_opset(converted: Converted, file: Admitted, wanted: Wanted, given: Samples) -> bytes:
    """The graph at the opset that is asked for, verified where that changes it."""
    graph = OnnxArtifact(converted.model, converted.signature, file.sha256)
    nothing = np.zeros((0, 1), dtype=np.float32)
    context = Context(calibration=nothing, bounds=(nothing[:0], nothing[:0]), seed=wanted.seed)
    return at_opset(graph, wanted.opset, given, context, str(file.path)).model


def _compared(converted: Converted, model: bytes, wanted: Wanted, given: Samples, progress: Progress) -> Comparison:
    source = converted.source
    recurrent = is_recurrent(parse(model))

    def takes(values: Feeds) -> bool:
        # ONNX Runtime 1.31 ends the process where an LSTM, GRU or RNN meets an empty batch.
        empty = not all(array.size for array in values.values())
        return not (recurrent and empty) and source.takes(values)

    tried = trials(converted.signature, given, takes, extremes=True, seed=wanted.seed)
    tried += converted.of_its_kind(given, wanted.seed)
    return compare(source, model, survived(tried) if recurrent else tried, progress=progress)


def _source(file: Admitted) -> ConvertedFile:
    return ConvertedFile(str(file.path), file.kind, file.size, file.sha256)


def _target(out: Path, to: Target | None) -> Target:
    """What to write.

    Raises:
        InputError: Neither the suffix nor an option says.
    """
    found = to or _SUFFIXES.get(out.suffix.lower())
    if found is None:
        raise InputError(f"{out}: its suffix does not say what to write; end it in .onnx or .safetensors, or give --to")
    return found


def _require_apart(source: Path, out: Path, wanted: Wanted) -> None:
    """Refuse to write over what the result is made of."""
    code = Path(wanted.arch.rpartition(":")[0]) if wanted.arch else None
    data = Path(wanted.real.data) if wanted.real.data is not None else None
    used = (source, find_card(source, wanted.card), wanted.real.schema, code, data)
    if out.resolve() in {path.resolve() for path in used if path is not None}:
        raise InputError(f"{out}: the result is made of this file; write to another")
