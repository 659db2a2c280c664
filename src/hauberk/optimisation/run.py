"""The story of `hauberk optimize`: admit an ONNX file, apply passes, keep those that hold, time the result, write it.

admit -> pass, verify, keep or undo -> … -> time, interleaved with the original -> write
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact
from hauberk.backends import Session, SessionOptions
from hauberk.errors import InputError, RefusedModelError
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency
from hauberk.files import read_bounded, require_writable, write_atomically
from hauberk.graph import feeds
from hauberk.graph.check import check_model
from hauberk.graph.model import signature_of
from hauberk.graph.passes import OPTIONAL, PASSES
from hauberk.graph.passes.fix_batch import FixBatch
from hauberk.graph.passes.onnx_runtime_offline import OnnxRuntimeOffline
from hauberk.graph.passes.onnxsim import Onnxsim
from hauberk.graph.passes.onnxslim import Onnxslim
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Feeds, runs_on
from hauberk.ingest.admission import admit
from hauberk.ingest.external import resolve
from hauberk.ingest.graphs import read_onnx
from hauberk.ingest.private import PrivateCopy
from hauberk.optimisation import streamed
from hauberk.optimisation.findings import ModelFile, Optimisation
from hauberk.optimisation.passes import apply_all, count_nodes
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Step
from hauberk.tensors import Signature

OTHERS: tuple[type[Step], ...] = (Onnxslim, Onnxsim, OnnxRuntimeOffline)
"""Other libraries' passes: only where they are named, or with `all`."""

OLDEST_OPSET = 13
BATCH = 256
_LARGEST_BATCH = 1 << 20
_LARGEST_SAMPLES = 1 << 30


def choose(names: str, fix_batch: int | None = None) -> tuple[Step, ...]:
    """Passes by their names, with their default parameters.

    Args:
        names: `default`, `all` (those and every other one but `fix-batch`, which takes something from the graph), or
            names separated by commas, in the order in which to apply them.
        fix_batch: Fix the batch at so many records before anything else.

    Raises:
        InputError: No such pass, or no such batch.
    """
    known = {str(kind.__struct_config__.tag): kind for kind in (*PASSES, *OPTIONAL, *OTHERS)}
    first: tuple[Step, ...] = ()
    if fix_batch is not None:
        if not 1 <= fix_batch <= _LARGEST_BATCH:
            raise InputError(f"--fix-batch: {fix_batch} is no batch; give 1 to {_LARGEST_BATCH}")
        first = (FixBatch(batch=fix_batch),)
    if names == "default":
        return (*first, *(kind() for kind in PASSES))
    if names == "all":
        return (*first, *(kind() for kind in known.values() if kind is not FixBatch))
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in known:
            raise InputError(f"--passes: {name!r} is no pass; known: default, all, {', '.join(known)}")
    return (*first, *(known[name]() for name in asked))


def optimise_file(
    source: Path,
    target: Path,
    *,
    passes: Sequence[Step],
    data: Path | None = None,
    explain: bool = False,
    seed: int = 0,
    seconds: float = 1.0,
    progress: Progress = SILENT,
) -> Optimisation:
    """Apply passes to an ONNX file, each verified, and write what is left of them.

    Args:
        source: The model, with its weights inside.
        target: Where to write the result; what is there is replaced once the result is complete.
        passes: In order.
        data: An `.npz` file with one array an input; without it inputs are drawn.
        explain: Time every version, not only the first and the last.
        seed: Of the inputs that are drawn.
        seconds: Time to spend on timing a version.
        progress: Who follows.

    Raises:
        RefusedModelError: The file is not an admissible model.
        InputError: A file is missing or unfit, the opset is too old, or a package that a pass needs is missing.
    """
    require_writable(target)
    proto, size, sha256 = _read(source)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        external = resolve(proto, source)
        if external.files:
            _check_opset(proto, source)
            samples = _samples(data, signature_of(proto))
            file = ModelFile(str(source), sha256, size, count_nodes(proto.SerializeToString()))
            return streamed.optimise(
                external, file, target, passes=passes, samples=samples, seed=seed, progress=progress
            )
    artifact = _admitted(proto, sha256, source)
    samples = _samples(data, artifact.signature)
    results, versions = apply_all(artifact, passes, samples, seed=seed, progress=progress)
    *_, (_, result) = versions
    check_model(result.model)
    timed = dict(versions) if explain else dict([versions[0], versions[-1]])
    latency = _latency(timed, samples, seed=seed, seconds=seconds, progress=progress)
    write_atomically(target, result.model)
    return Optimisation(
        source=ModelFile(str(source), artifact.origin, size, count_nodes(artifact.model)),
        result=ModelFile(str(target), result.digest, len(result.model), count_nodes(result.model)),
        passes=results,
        latency=latency,
    )


def _read(source: Path) -> tuple[onnx.ModelProto, int, str]:
    """The file's message, admitted, its size and its SHA-256 (hex)."""
    if source.is_dir():
        raise InputError(f"{source}: a folder; name an .onnx file")
    with PrivateCopy(source) as copy:
        if (kind := admit(copy).format) != "onnx":
            raise RefusedModelError(f"{source}: not an ONNX model but {kind}; name an .onnx file")
        proto: onnx.ModelProto = onnx.ModelProto.FromString(read_onnx(copy))
        return proto, copy.size, copy.sha256


def _admitted(proto: onnx.ModelProto, sha256: str, source: Path) -> OnnxArtifact:
    """The graph, once this version of the passes understands it."""
    _check_opset(proto, source)
    model = proto.SerializeToString()
    try:
        check_model(model)
        return OnnxArtifact(model, signature_of(proto), sha256)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _check_opset(proto: onnx.ModelProto, source: Path) -> None:
    opset = max((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    if opset < OLDEST_OPSET:
        raise InputError(
            f"{source}: opset {opset} is older than {OLDEST_OPSET}, which passes understand;"
            " convert it with onnx.version_converter.convert_version first"
        )


def _samples(data: Path | None, signature: Signature) -> Samples:
    """Sample inputs from a file, or none."""
    if data is None:
        return Samples()
    try:
        with np.load(io.BytesIO(read_bounded(data, _LARGEST_SAMPLES)), allow_pickle=False) as archive:
            arrays: dict[str, NDArray[np.generic]] = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{data}: not an .npz file of plain arrays, as numpy.savez writes it") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            place = [int(index) for index in np.argwhere(~finite)[0]]
            raise InputError(f"{data}: {name!r} is {array[tuple(place)]} at {place}; give finite numbers")
    try:
        return Samples.of(arrays, signature)
    except InputError as error:
        raise InputError(f"{data}: {error}") from error


def _latency(
    versions: Mapping[str, OnnxArtifact], samples: Samples, *, seed: int, seconds: float, progress: Progress
) -> LatencyResult | None:
    """Time versions against the first one, at one record and at 256, as far as the graph takes them."""
    options = SessionOptions(time_limit=None)
    sessions = {name: Session(version.model, options) for name, version in versions.items()}
    first = next(iter(sessions))
    original = sessions[first]

    fits = runs_on(original.run)
    signature = versions[first].signature
    taken = {spec.shape[0] for spec in list(versions.values())[-1].signature.inputs if spec.shape}
    fixed = next((size for size in taken if isinstance(size, int)), None)
    one = feeds.call(signature, fits, samples, records=fixed or 1, seed=seed)
    if one is None:
        one = _any_call(signature, fits, samples, seed)
    if one is None:
        return None
    many = None if fixed else feeds.call(signature, fits, samples, records=BATCH, seed=seed)
    records = _records(signature, one)
    runners = {name: _runner(session, one, many) for name, session in sessions.items()}
    return measure_latency(
        runners,
        baseline=first,
        again=_runner(Session(versions[first].model, options), one, many),
        records=records,
        batch=records if many is None else BATCH,
        seconds=seconds * len(versions),
        seed=seed,
        progress=progress,
    )


def _records(signature: Signature, values: Feeds) -> int:
    """Rows that every input of a call has; 1 where inputs differ, and a row of one cannot be a record."""
    rows = {len(values[spec.name]) for spec in signature.inputs if spec.shape}
    return rows.pop() if len(rows) == 1 else 1


def _any_call(signature: Signature, fits: Callable[[Feeds], bool], samples: Samples, seed: int) -> Feeds | None:
    """Some inputs that the graph runs on, where its first dimensions are not free."""
    tried = feeds.trials(signature, fits, samples, extremes=False, seed=seed)
    return next((trial.feeds for trial in tried if fits(trial.feeds)), None)


def _runner(session: Session, one: Feeds, many: Feeds | None) -> Runner:
    batch = one if many is None else many
    return Runner(one=lambda: session.run(one), many=lambda: session.run(batch))
