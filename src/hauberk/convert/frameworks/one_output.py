"""The graph that skl2onnx makes, left with one output in the terms of the rest of the house."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hauberk.errors import InputError, one_line

Way = Literal["decision", "probabilities", "outlier", "prediction"]
"""What the output is made of, see `estimator`."""

TINY = float(np.finfo(np.float32).tiny)
"""The least probability whose logarithm is taken; 0 would have none."""

_OURS = "hauberk_"
"""How the names of what is added begin; skl2onnx has a `score`, a `shape` and a `column` of its own."""


def keep_one_output(
    proto: onnx.ModelProto, way: Way, feeds: Mapping[str, NDArray[np.generic]], wanted: NDArray[np.generic]
) -> None:
    """Leave one output float32 [batch, K], and what computes it.

    Args:
        proto: Changed in place.
        way: What the output is made of.
        feeds: Some records.
        wanted: What the estimator answers them, float32 [N, K].

    Raises:
        InputError: The graph gives nothing that could be it.
    """
    graph = proto.graph
    floats = [value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    if not floats:
        raise InputError("skl2onnx gave no output of numbers")
    source = floats[-1]
    nodes, raw = [], source
    if way == "probabilities":
        graph.initializer.append(numpy_helper.from_array(np.array(TINY, dtype=np.float32), f"{_OURS}tiny"))
        nodes += [
            helper.make_node("Max", [source, f"{_OURS}tiny"], [f"{_OURS}kept"]),
            helper.make_node("Log", [f"{_OURS}kept"], [f"{_OURS}logarithm"]),
        ]
        raw = f"{_OURS}logarithm"
    else:
        column, sign = _place(run(proto, source, feeds), wanted)
        if column is not None:
            graph.initializer.append(numpy_helper.from_array(np.array([column], dtype=np.int64), f"{_OURS}column"))
            nodes.append(helper.make_node("Gather", [raw, f"{_OURS}column"], [f"{_OURS}score"], axis=1))
            raw = f"{_OURS}score"
        if sign < 0:
            nodes.append(helper.make_node("Neg", [raw], [f"{_OURS}turned"]))
            raw = f"{_OURS}turned"
    result = "prediction" if way == "prediction" else "logits"
    columns = wanted.shape[1]
    graph.initializer.append(numpy_helper.from_array(np.array([-1, columns], dtype=np.int64), f"{_OURS}shape"))
    nodes.append(helper.make_node("Reshape", [raw, f"{_OURS}shape"], [result]))
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, ["batch", columns]))
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    _drop_dead(graph)


def run(proto: onnx.ModelProto, output: str, feeds: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
    """One output of a graph as rows.

    Raises:
        InputError: ONNX Runtime does not read it, or it fails.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = np.asarray(session.run([output], dict(feeds))[0], dtype=np.float64)
    except Exception as error:  # its errors have no common base
        raise InputError(f"ONNX Runtime does not run the graph of it: {one_line(error)}") from error
    return found.reshape(len(found), -1)


def _place(found: NDArray[np.float64], wanted: NDArray[np.generic]) -> tuple[int | None, int]:
    """Which column of the graph's output is meant (`None`: all of them), and with which sign.

    Of two classes skl2onnx gives one column or two, in one order or the other, by the kind of the estimator.
    """
    target = wanted.astype(np.float64)
    if found.shape == target.shape:
        ways: list[tuple[int | None, NDArray[np.float64]]] = [(None, found)]
    elif target.shape[1] == 1:
        ways = [(column, found[:, [column]]) for column in range(found.shape[1])]
    else:
        raise InputError(f"skl2onnx gives {found.shape[1]} columns, the estimator {target.shape[1]}")
    distances = {
        (column, sign): float(np.abs(sign * values - target).sum()) for column, values in ways for sign in (1, -1)
    }
    return min(distances, key=lambda way: distances[way])


def _drop_dead(graph: onnx.GraphProto) -> None:
    """Remove what no output needs any more."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
            needed |= {name for attribute in node.attribute for inner in attribute.g.node for name in inner.input}
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
