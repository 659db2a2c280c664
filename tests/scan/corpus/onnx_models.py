"""Small ONNX models for the corpus: through the onnx package, and field by field where the package would refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    helper,
    numpy_helper,
)

from corpus import UNSAFE, Case

FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
MOST = (1 << 63) - 1


def value(name: str, shape: Sequence[int | str] | None = ("batch", 4), element: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, element, shape)


def numbers(name: str, *values: int, shape: Sequence[int] | None = None) -> TensorProto:
    """A tensor of int64."""
    array = np.array(values, np.int64)
    return numpy_helper.from_array(array if shape is None else array.reshape(shape), name)


def node(operator: str, inputs: Sequence[str], /, *outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, list(inputs), list(outputs) or ["y"], **attributes)


def graph(
    nodes: Sequence[NodeProto], inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), weights: Any = ()
) -> GraphProto:
    return helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))


def model(
    nodes: Sequence[NodeProto] = (),
    *,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    weights: Sequence[TensorProto] = (),
    functions: Sequence[FunctionProto] = (),
    opset: int = 20,
    domains: Sequence[str] = (),
) -> ModelProto:
    """A model; without nodes it hands its input on."""
    nodes = nodes or [node("Relu", ["x"])]
    main = graph(
        nodes,
        [value("x")] if inputs is None else inputs,
        [value("y", None)] if outputs is None else outputs,
        weights,
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(main, opset_imports=opsets, ir_version=10, functions=list(functions))


def external(name: str = "w", dims: Sequence[int] = (4, 4), element: int = FLOAT, **entries: str) -> TensorProto:
    """A tensor that lies elsewhere."""
    tensor = TensorProto(name=name, data_type=element, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def with_weight(tensor: TensorProto) -> ModelProto:
    """A product with that tensor."""
    return model([node("MatMul", ["x", tensor.name])], weights=[tensor])


def written(
    content: ModelProto | bytes | Callable[[], ModelProto | bytes], name: str = "model.onnx"
) -> Callable[[Path], Path]:
    """What writes a model into a folder."""

    def make(folder: Path) -> Path:
        made = content() if callable(content) else content
        path = folder / name
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString(deterministic=True))
        return path

    return make


def varint(number: int) -> bytes:
    """As protobuf writes it."""
    digits = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def field(number: int, content: bytes | int) -> bytes:
    """A field with a number or bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content & (1 << 64) - 1)
    return varint(number << 3 | 2) + varint(len(content)) + content


def wrapped(main: bytes) -> bytes:
    """A model around the bytes of a graph."""
    return field(1, 10) + field(7, main) + field(8, field(2, 20))


def function(name: str, nodes: Sequence[NodeProto], domains: Sequence[str] = ("own",)) -> FunctionProto:
    """A function from x to y."""
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_function("own", name, ["x"], ["y"], list(nodes), opsets)


def calling(*functions: FunctionProto) -> ModelProto:
    """A model that calls the first of these functions."""
    nodes = [node(functions[0].name, ["x"], domain="own")]
    return model(nodes, functions=functions, domains=["own"])


def attribute(name: str, content: Any) -> AttributeProto:
    return helper.make_attribute(name, content)


def case(name: str, content: object, expected: frozenset[str] = UNSAFE, reference: str = "") -> Case:
    return Case(f"onnx-{name}", written(content), expected, reference)  # type: ignore[arg-type]


def sparse(indices: list[int], dims: list[int]) -> ModelProto:
    """A model with a sparse tensor of ones."""
    made = model()
    made.graph.sparse_initializer.append(
        SparseTensorProto(
            values=numpy_helper.from_array(np.ones(len(indices), np.float32), "s"),
            indices=numbers("", *indices),
            dims=dims,
        )
    )
    return made
