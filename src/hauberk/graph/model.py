"""What every part of the room needs of ONNX: pinned versions, building and reading models, sessions to run them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import InputError, one_line
from hauberk.tensors import Signature, TensorSpec

OPSET = 20
"""Opset of every graph that we write: the newest that ONNX Runtime 1.23 and every quantizer we use know by heart."""

IR_VERSION = 10
"""IR version written into every graph; onnx would write a newer one, which older runtimes refuse."""

BATCH = "batch"
"""Name of the free dimension of every input and output."""

SIZE_LIMIT = 2**31
"""Protobuf holds less than this many bytes in one message, so weights inline must stay below."""

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Standard operators that draw random numbers."""


def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """A node with one output, named like its output."""
    return helper.make_node(operator, list(inputs), [output], name=output, **attributes)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes that a node states, by name; those it leaves out have the operator's defaults."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def assemble(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
    signature: Signature,
) -> bytes:
    """Serialise a graph at the pinned versions.

    Args:
        name: Name of the graph.
        nodes: In topological order.
        constants: Initializers by name.
        signature: Inputs and outputs of the graph.
    """
    graph = helper.make_graph(
        list(nodes),
        name,
        [value_info(spec) for spec in signature.inputs],
        [value_info(spec) for spec in signature.outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    serialised: bytes = model.SerializeToString()
    return serialised


def artifact(model: bytes) -> OnnxArtifact:
    """A graph that we built ourselves, as an artifact: it is its own origin."""
    return OnnxArtifact(model=model, signature=signature_of(parse(model)), origin=hashlib.sha256(model).hexdigest())


def record_shape(signature: Signature, what: str) -> tuple[int, ...]:
    """The shape of one record of a core: (D,), (T, D) or (C, H, W).

    Args:
        signature: One input, float32 [batch, *shape] with every size but the batch fixed.
        what: Who asks, for the message.

    Raises:
        InputError: Another number of inputs, another dtype, or a size that is left open.
    """
    inputs = signature.inputs
    if len(inputs) == 1 and inputs[0].dtype == "float32" and len(inputs[0].shape) >= 2:
        shape = tuple(size for size in inputs[0].shape[1:] if isinstance(size, int) and size > 0)
        if len(shape) == len(inputs[0].shape) - 1:
            return shape
    shown = ", ".join(map(describe, inputs)) or "none"
    raise InputError(
        f"{what}: inputs are {shown}; expected one float32 [batch, …] with every other size a number above 0"
    )


def describe(spec: TensorSpec) -> str:
    """A tensor as messages show it: `'features' float32 [batch, 41]`."""
    return f"{spec.name!r} {spec.dtype} [{', '.join(map(str, spec.shape))}]"


def has_no_gradient(artifact: OnnxArtifact) -> bool:
    """Whether a graph computes with operators of classical learning (trees above all), which the twin cannot follow."""
    return any(node.domain == "ai.onnx.ml" for node in nodes(parse(artifact.model)))


def onnx_only(artifact: Artifact, step: str) -> OnnxArtifact:
    """The artifact, if it is a graph.

    Raises:
        InputError: It is a torch module; the message names the step that needs a graph.
    """
    if isinstance(artifact, OnnxArtifact):
        return artifact
    raise InputError(f"{step}: works on an ONNX graph, not on a torch module; export it first")


def parse(model: bytes) -> onnx.ModelProto:
    """Read a serialised model.

    Raises:
        InputError: The bytes are not an ONNX model.
    """
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's DecodeError, of a package that has no types
        raise InputError("not an ONNX model, or one that is damaged or cut short") from error
    if not proto.HasField("graph") or not proto.graph.output:
        raise InputError("not an ONNX model: it holds no graph with an output")
    return proto


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, those in nested graphs and functions included."""
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        yield node
        for graph in nested_graphs(node.attribute):
            pending.extend(graph.node)


def nested_graphs(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs that a node's attributes hold: branches of an If, the body of a Loop or Scan; not those in them."""
    for attribute in attributes:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def signature_of(model: onnx.ModelProto) -> Signature:
    """Inputs (without initializers) and outputs of a model's graph; an unnamed free dimension is called `?`."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = (value for value in model.graph.input if value.name not in initializers)
    return Signature(
        inputs=tuple(spec_of(value) for value in inputs),
        outputs=tuple(spec_of(value) for value in model.graph.output),
    )


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A plain session: one thread, CPU, default optimisation, silent.

    Raises:
        InputError: ONNX Runtime refuses the model; the message is its own, in one line.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but Exception
        raise InputError(f"ONNX Runtime refuses the model: {one_line(error)}") from error


def run(session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Run a session and return every output.

    Raises:
        InputError: ONNX Runtime cannot run the model on these inputs; the message is its own, in one line.
    """
    try:
        outputs: list[NDArray[np.generic]] = session.run(None, dict(feeds))
    except Exception as error:  # its exceptions share no base but Exception
        raise InputError(f"ONNX Runtime cannot run the model: {one_line(error)}") from error
    return outputs


def value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    """The declaration of an input or output."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    declaration: onnx.ValueInfoProto = helper.make_tensor_value_info(spec.name, element, list(spec.shape))
    return declaration


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    """Name, dtype and shape that a declaration states.

    Raises:
        InputError: It is no tensor, or lacks its element type or its shape.
    """
    if not value.type.HasField("tensor_type"):
        raise InputError(f"ONNX model: {value.name!r} is no tensor but a {value.type.WhichOneof('value')}")
    tensor = value.type.tensor_type
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    except KeyError as error:
        raise InputError(f"ONNX model: {value.name!r} has no known element type") from error
    if not tensor.HasField("shape"):
        raise InputError(f"ONNX model: {value.name!r} has no shape; run onnx.shape_inference on it first")
    shape = tuple(
        int(dim.dim_value) if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in tensor.shape.dim
    )
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)
