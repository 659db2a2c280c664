"""OpenVINO as sessions, with the interface of those of ONNX Runtime (extra `openvino`).

Where it differs from a plain `openvino` script:

1. Computes in float32. OpenVINO's own default on a processor with bfloat16 is bfloat16, which moves logits without a
   word; here it is used where it is asked for.
2. Tensors are preset: `infer([array])` from Python costs 85 µs whatever the model, a preset tensor 8.
3. Inputs are checked here. OpenVINO casts a wrong dtype in silence, and answers records of the wrong width with an
   empty array.
4. Nothing is reported. `import openvino` tells Google Analytics of itself and writes an identifier into the home
   folder, consent or not; here it is imported without its reporter. Code that imported it earlier has reported already.
5. Threads are not pinned to cores: the calling thread is one of them, and worker processes would share core 0.
"""

from __future__ import annotations

import importlib
import math
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.backends.admission import admit
from hauberk.backends.interface import RunnableSession, buffer
from hauberk.backends.options import OpenVinoOptions
from hauberk.errors import HauberkError, InputError, LimitError, MissingExtraError, RefusedModelError, one_line
from hauberk.protobuf import messages, text
from hauberk.tensors import Signature, TensorSpec

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_DTYPES = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "boolean": "bool",
}
_MOST_SHAPES = 4
"""Shapes of inputs whose tensors are kept for the next run; one record, a batch, and the rest of a batch."""

_PLACES = ("Exception from src/", "Check '")
"""Beginnings of the lines in which OpenVINO says where in its source it stopped."""

_import_lock = threading.Lock()


class OpenVinoSession(RunnableSession):
    """A model, loaded and ready to run on the processor. Threads may share it.

    Args:
        model: A serialised `onnx.ModelProto` with its weights inside.
        options: Threads, precision, limits.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        RefusedModelError: The model reaches outside its graph, is not valid, or has an operator that OpenVINO lacks.
        InputError: The processor does not compute in the precision that is asked for.
    """

    def __init__(self, model: bytes, options: OpenVinoOptions | None = None) -> None:
        self.options = OpenVinoOptions() if options is None else options
        if self.options.validate:
            admit(model)
        self._package = library()
        self._core = self._package.Core()
        self._settings = _settings(self._core, self.options)
        try:
            self._model = self._core.read_model(model)
            self._compiled: Any = self._core.compile_model(self._model, "CPU", self._settings)
        except Exception as error:  # its errors are RuntimeErrors and whatever plug-ins raise
            raise RefusedModelError(f"OpenVINO does not load the model: {_said(error)}") from error
        self.signature = _signature(model, self._compiled)
        self._idle = _Pool()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the graph.

        Args:
            feeds: One array an input, of the dtype and shape that `signature` gives. Integers of 64 bits are computed
                in 32.

        Returns:
            Fresh arrays, one an output, in the order of `signature.outputs`.

        Raises:
            InputError: An input is missing, unknown, or has the wrong dtype or shape.
            LimitError: The run took too long.
            HauberkError: The session is closed.
        """
        compiled = self._open()
        arrays = _checked(feeds, self.signature)
        shapes = tuple(array.shape for array in arrays)
        if any(0 in shape for shape in shapes):
            return [_empty(spec) for spec in self.signature.outputs]
        request = self._idle.take(shapes)
        if request is None:
            inputs = [np.empty(array.shape, array.dtype) for array in arrays]
            request = _Request(self._package, compiled, self.signature, inputs, self.options)
        for target, array in zip(request.inputs, arrays, strict=True):
            np.copyto(target, array)
        request.run()
        results = request.outputs()
        self._idle.give(shapes, request)
        return results

    def fixed_batch(self, records: int) -> OpenVinoFixedBatch:
        """Buffers for runs of always the same number of records.

        The graph is compiled once more for that number: 6 µs a run faster for a small model than with a free batch, for
        the memory of another copy of the weights.

        Raises:
            InputError: An input or output is free in another dimension than the first.
            HauberkError: The session is closed.
        """
        self._open()
        inputs = {spec.name: buffer(spec, records) for spec in self.signature.inputs}
        outputs = {spec.name: buffer(spec, records) for spec in self.signature.outputs}
        fixed = self._model.clone()
        try:
            fixed.reshape({name: list(array.shape) for name, array in inputs.items()})
            compiled = self._core.compile_model(fixed, "CPU", self._settings)
        except Exception as error:  # as in __init__
            raise InputError(f"OpenVINO cannot fix the batch to {records} records: {_said(error)}") from error
        request = _Request(self._package, compiled, self.signature, list(inputs.values()), self.options)
        return OpenVinoFixedBatch(request, inputs, outputs)

    def close(self) -> None:
        """Free the model once the runs under way are done. Closing twice is allowed."""
        self._compiled = self._model = None
        self._idle = _Pool()

    def _open(self) -> Any:
        if self._compiled is None:
            raise HauberkError("the session is closed; open it again to run it")
        return self._compiled


class OpenVinoFixedBatch:
    """One model, one number of records, the same memory for every run. Not for two threads at once.

    Write the inputs, `run`, read the outputs. It keeps the model in memory when the session is closed, so drop it then.

    Attributes:
        inputs: One array an input, of its dtype and shape.
        outputs: One array an output; the next run overwrites it.
    """

    def __init__(self, request: _Request, inputs: dict[str, NDArray[Any]], outputs: dict[str, NDArray[Any]]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        request.write_to(list(outputs.values()))
        self.run = request.run
        """Compute `outputs` from `inputs`; `LimitError` where that takes too long."""


class _Request:
    """Runs one after another, from the same input arrays.

    Attributes:
        inputs: One C-contiguous array an input, in the order of the signature.
    """

    def __init__(
        self,
        package: Any,
        compiled: Any,
        signature: Signature,
        inputs: list[NDArray[Any]],
        options: OpenVinoOptions,
    ) -> None:
        self.inputs = inputs
        self._package = package
        self._request = compiled.create_infer_request()
        self._limit = options.time_limit
        self._outputs = [spec.name for spec in signature.outputs]
        for spec, array in zip(signature.inputs, inputs, strict=True):
            self._request.set_tensor(spec.name, package.Tensor(array, shared_memory=True))

    def write_to(self, outputs: list[NDArray[Any]]) -> None:
        """Let every run write its outputs into these arrays, one an output."""
        self._written = outputs  # a tensor does not keep the array alive whose memory it shares
        for name, array in zip(self._outputs, outputs, strict=True):
            self._request.set_tensor(name, self._package.Tensor(array, shared_memory=True))

    def run(self) -> None:
        """Compute from what the inputs hold now."""
        try:
            if self._limit is None:
                self._request.infer(share_inputs=True, share_outputs=True, decode_strings=False)
                return
            self._request.start_async(share_inputs=True)
            late = not self._request.wait_for(math.ceil(1000 * self._limit))
            if late:
                self._request.cancel()
            self._request.wait()
        except Exception as error:
            if self._limit is not None and "was canceled" in str(error):
                raise self._too_late() from error
            raise InputError(f"OpenVINO cannot run the model on this input: {_said(error)}") from error
        if late:  # it finished after its time, inside one long operator
            raise self._too_late()

    def outputs(self) -> list[NDArray[Any]]:
        """Copies of what the last run gave."""
        return [np.array(self._request.get_tensor(name).data) for name in self._outputs]

    def _too_late(self) -> LimitError:
        return LimitError(f"the model was stopped: one run took more than {self._limit:g} s")


class _Pool:
    """Requests that no run uses at the moment, by the shapes of their inputs; the shapes used last are kept."""

    def __init__(self) -> None:
        self._requests: OrderedDict[tuple[tuple[int, ...], ...], list[_Request]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, shapes: tuple[tuple[int, ...], ...]) -> _Request | None:
        with self._lock:
            waiting = self._requests.get(shapes)
            return waiting.pop() if waiting else None

    def give(self, shapes: tuple[tuple[int, ...], ...], request: _Request) -> None:
        with self._lock:
            self._requests.setdefault(shapes, []).append(request)
            self._requests.move_to_end(shapes)
            if len(self._requests) > _MOST_SHAPES:
                self._requests.popitem(last=False)


def library() -> Any:
    """The `openvino` package, imported without its reporter.

    Raises:
        MissingExtraError: It is not installed.
    """
    with _import_lock:
        if sys.modules.get("openvino") is not None:
            return sys.modules["openvino"]
        silenced = "openvino_telemetry" not in sys.modules
        if silenced:
            # Its converter reports the import itself unless this package is missing; then it has a stand-in that does
            # nothing. None in this place is how Python says that a module cannot be imported.
            sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            raise MissingExtraError(
                f"OpenVINO is not installed ({one_line(error)}); install it with pip install 'hauberk[openvino]'"
            ) from error
        finally:
            if silenced:
                del sys.modules["openvino_telemetry"]


def _settings(core: Any, options: OpenVinoOptions) -> dict[str, object]:
    """What the processor's plug-in is told; every key has a test of its effect."""
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if options.precision == "bfloat16" and "BF16" not in capabilities:
        raise InputError(
            "OpenVINO option precision is 'bfloat16', which this processor does not compute in; leave it at 'float32'"
        )
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        "INFERENCE_NUM_THREADS": options.threads,
        "NUM_STREAMS": options.streams,
        "ENABLE_CPU_PINNING": False,
        # Without this, layers whose weights are packed in 8 or 4 bits quantize their activations at run time.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }


def _signature(model: bytes, compiled: Any) -> Signature:
    """Inputs and outputs as the model declares them, with the shapes that OpenVINO found."""
    inputs = {name: port for port in compiled.inputs for name in port.names}
    outputs = {name: port for port in compiled.outputs for name in port.names}
    declared_inputs, declared_outputs = _declared(model)
    return Signature(
        inputs=tuple(_spec(name, dims, inputs[name]) for name, dims in declared_inputs.items() if name in inputs),
        outputs=tuple(_spec(name, dims, outputs[name]) for name, dims in declared_outputs.items()),
    )


def _declared(model: bytes) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Names of a model's inputs and outputs, in order, each with the names of its free dimensions ("" for a size).

    OpenVINO keeps neither the order nor the dimensions' names. Fields of onnx.proto: ModelProto.graph 7,
    GraphProto.input 11 and output 12, ValueInfoProto.name 1 and type 2, TypeProto.tensor_type 1, its shape 2, dim 1,
    dim_param 2.
    """
    inputs: dict[str, list[str]] = {}
    outputs: dict[str, list[str]] = {}
    for graph in _inside(memoryview(model), 7):
        for field, found in ((11, inputs), (12, outputs)):
            for value in _inside(graph, field):
                found[text(value, 1)] = [text(dim, 2) for dim in _inside(value, 2, 1, 2, 1)]
    return inputs, outputs


def _inside(message: memoryview, field: int, *further: int) -> Iterator[memoryview]:
    """The messages at the end of a path of fields."""
    for number, value in messages(message):
        if number == field:
            if further:
                yield from _inside(value, *further)
            else:
                yield value


def _spec(name: str, dimensions: list[str], port: Any) -> TensorSpec:
    found = port.get_partial_shape()
    kind = port.get_element_type().get_type_name()
    if found.rank.is_dynamic:
        raise RefusedModelError(f"OpenVINO does not load the model: the rank of {name!r} is not known")
    names = dimensions if len(dimensions) == len(found) else [""] * len(found)
    shape = tuple(
        named or "any" if size.is_dynamic else size.get_length() for size, named in zip(found, names, strict=True)
    )
    return TensorSpec(name=name, dtype=_DTYPES.get(kind, kind), shape=shape)


def _checked(feeds: Mapping[str, NDArray[Any]], signature: Signature) -> list[NDArray[Any]]:
    """The arrays in the order of the inputs, known to fit."""
    if len(feeds) > len(signature.inputs):
        unknown = sorted(set(feeds) - {spec.name for spec in signature.inputs})
        raise InputError(f"the model has no input {', '.join(map(repr, unknown))}")
    arrays = []
    for spec in signature.inputs:
        array = feeds.get(spec.name)
        if array is None:
            raise InputError(f"input {spec.name!r} is missing; the model needs {spec.dtype} {list(spec.shape)}")
        if array.dtype != spec.dtype:
            raise InputError(f"input {spec.name!r} has the data type {array.dtype}; the model needs {spec.dtype}")
        if len(array.shape) != len(spec.shape) or any(
            isinstance(wanted, int) and size != wanted for size, wanted in zip(array.shape, spec.shape, strict=True)
        ):
            raise InputError(
                f"input {spec.name!r} has the dimensions {list(array.shape)}; the model needs {list(spec.shape)}"
            )
        arrays.append(array)
    return arrays


def _empty(spec: TensorSpec) -> NDArray[Any]:
    """The answer to no records, which OpenVINO's kernels are not asked for."""
    return np.zeros([size if isinstance(size, int) else 0 for size in spec.shape], dtype=spec.dtype)


def _said(error: Exception) -> str:
    return one_line(error, without=_PLACES)
