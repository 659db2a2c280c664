"""An ONNX model that somebody brings becomes a core graph, or is refused with the reason in one line.

What is changed: opset and IR version (converted by onnx, then compared on random records), names of input and output,
the batch dimension (freed), an output [N] (made [N, 1]), an output in half or double precision (cast), and a softmax or
sigmoid at the very end (taken off: the decision graph works on logits, and would squash probabilities a second time).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, version_converter
from onnx_ir.passes.common import RemoveUnusedNodesPass

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError, one_line
from hauberk.graph.check import check_model
from hauberk.graph.model import (
    BATCH,
    IR_VERSION,
    OPSET,
    parse,
    run,
    session,
    signature_of,
    spec_of,
    value_info,
)
from hauberk.tensors import TensorSpec

_FLOATS = ("float16", "float32", "float64")
_BATCHES = (1, 2, 257)


def normalise(artifact: OnnxArtifact) -> OnnxArtifact:
    """Turn a user's ONNX model into a core graph: `features` float32 [batch, *shape] to `logits` float32 [batch, K].

    Args:
        artifact: One float32 input with two dimensions or more, all but the first fixed; one float output
            [N, K] or [N].

    Returns:
        The core graph, checked, with the origin and the history of `artifact`.

    Raises:
        InputError: Not an ONNX model, another number or kind of inputs and outputs, weights in another file, an opset
            that cannot be converted, or an operator that fixes the batch.
    """
    return as_core(artifact, take_off_link=True)


def as_core(artifact: OnnxArtifact, *, take_off_link: bool = False) -> OnnxArtifact:
    """Bring a graph to the core's shape; `take_off_link` removes a softmax or sigmoid at its end."""
    proto = parse(artifact.model)
    _refuse_external_data(proto)
    _drop_initializers_from_inputs(proto)
    source = _check_input(proto)
    proto = _at_pinned_version(proto, source)
    output = _output_of(proto, source)
    proto = _reshaped(proto, output, take_off_link=take_off_link)
    _free_batch(proto, shape=_record(source), logits=1 if output.ndim == 1 else output.shape[1])
    model = proto.SerializeToString()
    check_model(model)
    return replace(artifact, model=model, signature=signature_of(proto))


def _refuse_external_data(proto: onnx.ModelProto) -> None:
    outside = [t.name for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    if outside:
        raise InputError(
            f"ONNX model: {len(outside)} weights ({outside[0]!r}, …) lie in another file; save it with weights inline"
        )


def _drop_initializers_from_inputs(proto: onnx.ModelProto) -> None:
    """Up to IR version 3 every initializer was listed as an input too; as an input it could be replaced by a caller."""
    initializers = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in initializers]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)


def _check_input(proto: onnx.ModelProto) -> TensorSpec:
    """The one input, float32 [batch, *shape] with a fixed shape; and that there is one output."""
    names = [value.name for value in proto.graph.output]
    if len(names) != 1:
        raise InputError(
            f"ONNX model: {len(names)} outputs ({', '.join(names)}); expected one, the logits [batch, K]"
            " (of a scikit-learn classifier keep the raw scores only)"
        )
    inputs = [spec_of(value) for value in proto.graph.input]
    described = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in inputs) or "none"
    if len(inputs) != 1 or inputs[0].dtype != "float32" or len(inputs[0].shape) < 2:
        raise InputError(f"ONNX model: inputs are {described}; expected one float32 [batch, D] or [batch, …]")
    if any(isinstance(size, str) or size < 1 for size in inputs[0].shape[1:]):
        raise InputError(
            f"ONNX model: input {described} has no fixed width; expected float32 [batch, D] with D a number"
        )
    return inputs[0]


def _sample(source: TensorSpec) -> dict[str, NDArray[np.generic]]:
    """Random records in [0, 1), as many as a fixed batch dimension asks for."""
    batch = source.shape[0]
    records = batch if isinstance(batch, int) else 2
    return {source.name: np.random.default_rng(0).random((records, *_record(source)), dtype=np.float32)}


def _record(source: TensorSpec) -> tuple[int, ...]:
    """The shape of one record of a checked input."""
    return tuple(int(size) for size in source.shape[1:])


def _at_pinned_version(proto: onnx.ModelProto, source: TensorSpec) -> onnx.ModelProto:
    """The same model at our opset and IR version; a conversion is compared with the original on random records."""
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), None)
    if opset is None:
        raise InputError("ONNX model: it names no opset of the standard domain")
    converted = proto
    if opset != OPSET:
        advice = f"save it again with opset {OPSET}"
        try:
            converted = version_converter.convert_version(proto, OPSET)
        except RuntimeError as error:  # ConvertError and the checker's errors are runtime errors
            raise InputError(
                f"ONNX model: opset {opset} cannot be converted to {OPSET}; {advice} ({one_line(error)})"
            ) from error
        feeds = _sample(source)
        before, after = (run(session(each.SerializeToString()), feeds)[0] for each in (proto, converted))
        if not np.allclose(before, after, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise InputError(f"ONNX model: converting opset {opset} to {OPSET} changes what it computes; {advice}")
    converted.ir_version = IR_VERSION
    return converted


def _output_of(proto: onnx.ModelProto, source: TensorSpec) -> NDArray[np.generic]:
    """What the model answers to a sample, checked: a float [N, K] or [N]."""
    feeds = _sample(source)
    output = run(session(proto.SerializeToString()), feeds)[0]
    name = proto.graph.output[0].name
    described = f"{name} {output.dtype} {list(output.shape)} for {len(feeds[source.name])} records"
    if output.dtype.name not in _FLOATS or output.ndim not in (1, 2) or len(output) != len(feeds[source.name]):
        raise InputError(f"ONNX model: output is {described}; expected one float [batch, K] or [batch]")
    return output


def _reshaped(proto: onnx.ModelProto, output: NDArray[np.generic], *, take_off_link: bool) -> onnx.ModelProto:
    """Rename input and output, take the link off, and append what makes `output` float32 [batch, K]."""
    model = ir.serde.deserialize_model(proto)
    graph = model.graph
    result = graph.outputs[0]
    if result.producer() is None:
        raise InputError(f"ONNX model: output {result.name!r} is no node's result; the model computes nothing")
    if take_off_link:
        result = _without_link(result, logits=1 if output.ndim == 1 else output.shape[1])
    if output.ndim == 1:
        axis = ir.Value(name="logits_axis", const_value=ir.tensor(np.array([1], dtype=np.int64)))
        graph.register_initializer(axis)
        result = _append(graph, ir.node("Unsqueeze", [result, axis]))
    if output.dtype != np.float32:
        result = _append(graph, ir.node("Cast", [result], attributes={"to": int(TensorProto.FLOAT)}))
    graph.outputs[0] = result
    RemoveUnusedNodesPass()(model)
    source = graph.inputs[0]
    values = list(_values(graph))
    taken = {value.name for value in values} | {"features", "logits"}
    for value in values:
        if value.name in ("features", "logits"):
            value.name = next(name for k in count() if (name := f"{value.name}_{k}") not in taken)
            taken.add(value.name)
    source.name, result.name = "features", "logits"
    return ir.serde.serialize_model(model)


def _without_link(result: ir.Value, logits: int) -> ir.Value:
    """The logits under a final softmax (K > 1) or sigmoid (K = 1): their margin is the log-odds of the same answer."""
    last = result.producer()
    if last is None or not last.inputs:
        return result
    link, before = "Sigmoid" if logits == 1 else "Softmax", last.inputs[0]
    over_classes = link == "Sigmoid" or last.attributes.get_int("axis", -1) in (-1, 1)
    if last.domain or last.op_type != link or not over_classes or before is None or before.producer() is None:
        return result
    return before


def _append(graph: ir.Graph, node: ir.Node) -> ir.Value:
    graph.append(node)
    return node.outputs[0]


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Every value that has a name in this graph or in one nested in it, without the graph's own input."""
    yield from graph.initializers.values()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield from node.outputs
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from attribute.as_graph().inputs
                yield from attribute.as_graph().initializers.values()


def _free_batch(proto: onnx.ModelProto, *, shape: tuple[int, ...], logits: int) -> None:
    """Declare the batch free and see that it is: no operator may insist on one number of records."""
    graph = proto.graph
    del graph.value_info[:]  # intermediate shapes may hold the fixed batch; they are inferred again where needed
    graph.input[0].CopyFrom(value_info(TensorSpec("features", "float32", (BATCH, *shape))))
    graph.output[0].CopyFrom(value_info(TensorSpec("logits", "float32", (BATCH, logits))))
    runner = session(proto.SerializeToString())
    for records in _BATCHES:
        try:
            answer = run(runner, {"features": np.zeros((records, *shape), dtype=np.float32)})[0].shape
        except InputError as error:
            raise InputError(f"ONNX model: no free batch dimension; a batch of {records} fails: {error}") from error
        if answer != (records, logits):
            raise InputError(
                f"ONNX model: no free batch dimension; a batch of {records} gives an output of shape {list(answer)},"
                f" expected {[records, logits]}"
            )
