"""Non-linear quantization: weights as four-bit indices into a codebook of a few levels.

A weight tensor becomes `scale[channel] * levels[index]`. The levels are found by k-means (Gong et al. 2014,
"Compressing Deep Convolutional Networks using Vector Quantization", arXiv:1412.6115; Han et al. 2016,
arXiv:1510.00149) or are powers of two (Zhou et al. 2017, arXiv:1702.03044). It is written in standard ONNX, opset 21
or newer,

    float:    Mul(Gather(levels float32 [2**bits], Cast(indices uint4)), scale)
    integer:  Gather(levels int8 [2**bits], Cast(indices uint4)), where int8 codes stood before DequantizeLinear

which ONNX Runtime folds when it loads the graph: the running model, its kernels and its latency are those of the graph
with the decoded weights, and the file is about an eighth of float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.compress.notes import stay_in_float
from hauberk.errors import InputError, one_line
from hauberk.graph.model import attributes
from hauberk.recipe import Context, Contract, Lossy, Step

Levels = Literal["k-means", "powers-of-two"]

OPSET = 21
"""The first opset with tensors of int4 and uint4."""

LARGEST_BITS = 4
"""A uint4 index tells 16 levels apart."""

_BINS = 1 << 14
_ROUNDS = 100


class Codebook(Step, frozen=True, kw_only=True, tag="codebook"):
    """Keep weights as indices into a codebook, computed with as float32.

    Attributes:
        bits: 1 to 4: 2 to 16 levels a tensor. Indices take four bits in the file whatever this is.
        levels: Where the levels lie.
        smallest: Tensors of fewer values stay as they are.
    """

    bits: int = 4
    levels: Levels = "k-means"
    smallest: int = 256

    _CONTRACTS: ClassVar[dict[int, Lossy]] = {
        4: Lossy(agreement=0.95, rms=0.2),
        3: Lossy(agreement=0.92, rms=0.35),
        2: Lossy(agreement=0.85, rms=0.7),
        1: Lossy(agreement=0.8, rms=1.0),
    }

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= LARGEST_BITS:
            raise InputError(f"codebook: bits is {self.bits}; 1 to {LARGEST_BITS} are right")

    @property
    def contract(self) -> Contract:
        """At 4 bits decisions agree on 95 % of real records, logits within 20 %; wider with fewer bits."""
        return self._CONTRACTS[self.bits]

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """Which layers keep their weights as floats, and why."""
        graph = read_core(artifact, self.name).model.graph
        small = {
            tensor.name: math.prod(tensor.dims)
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT and not self._worth(tensor)
            if sum(size > 1 for size in tensor.dims) >= 2  # vectors, biases above all, are no weights of a layer
        }

        def why(node: onnx.NodeProto) -> str:
            counts = [small[name] for name in node.input if name in small]
            return f"{max(counts)} weights are too few to gain" if counts else ""

        return stay_in_float(graph, why)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - needs no records
        """Return the graph with its large float32 weights behind codebooks.

        Raises:
            InputError: Not a core, quantized, an opset that onnx cannot bring to 21, weights that are not finite, or
                none that are large enough.
        """
        core = read_core(artifact, self.name)
        core.require_float()
        model = at_least_opset(core.model, self.name)
        axes = channel_axes(model.graph)
        large = [tensor for tensor in model.graph.initializer if self._worth(tensor)]
        if not large:
            raise InputError(
                f"{self.name}: nothing to put behind a codebook, the graph has no float32 constant of {self.smallest}"
                " values in two dimensions or more"
            )
        nodes: list[onnx.NodeProto] = []
        for tensor in large:
            values: NDArray[np.float32] = numpy_helper.to_array(tensor)
            if not np.isfinite(values).all():
                raise InputError(f"{self.name}: weights {tensor.name!r} are not finite")
            scale = channel_scales(values, axes.get(tensor.name))
            book = fitted((values / scale).astype(np.float32), self.bits, self.levels)
            nodes += replace_floats(model.graph, tensor, book, scale)
        put_first(model.graph, nodes)
        return core.finished(model)

    def _worth(self, tensor: onnx.TensorProto) -> bool:
        return (
            tensor.data_type == TensorProto.FLOAT
            and len(tensor.dims) >= 2
            and int(np.prod(tensor.dims)) >= self.smallest
        )


def channel_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """The axis of the output channels, or gates, in the weights of each layer that has such an axis; by weight."""
    axes: dict[str, int] = {}
    for node in graph.node:
        columns = 0 if attributes(node).get("transB", 0) else 1
        axis = {"Conv": 0, "Gemm": columns, "MatMul": -1, "LSTM": 1, "GRU": 1, "RNN": 1}.get(node.op_type)
        if axis is not None:
            axes.update(dict.fromkeys(node.input[1:3], axis))
    return axes


class Book(NamedTuple):
    """A tensor as levels and indices.

    Attributes:
        levels: Float32 [L], ascending; within [-1, 1] where the tensor was scaled to that.
        indices: Uint8, of the tensor's shape, each below L.
    """

    levels: NDArray[np.float32]
    indices: NDArray[np.uint8]


def channel_scales(values: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """The largest magnitude of each channel along an axis, or of the whole tensor, shaped to broadcast; never 0."""
    rest = tuple(place for place in range(values.ndim) if axis is None or place != axis % values.ndim)
    largest = np.abs(values).max(axis=rest, keepdims=True).astype(np.float32)
    scales: NDArray[np.float32] = np.where(largest > 0, largest, np.float32(1))
    return scales


def fitted(values: NDArray[np.float32], bits: int, levels: Levels) -> Book:
    """The codebook for values in [-1, 1] and the index of the nearest level to each of them."""
    chosen = k_means(values, 2**bits) if levels == "k-means" else powers_of_two(2**bits)
    return Book(chosen, nearest(values, chosen))


def k_means(values: NDArray[np.float32], entries: int) -> NDArray[np.float32]:
    """Levels with the least squared error from values, by Lloyd's algorithm in one dimension.

    It starts at quantiles and works on a histogram of 16,384 bins, so that its time does not grow with the tensor.

    Args:
        values: Float32, any shape, finite, at least one.
        entries: Levels to find, at least 1.

    Returns:
        Float32 [at most `entries`], ascending and distinct.
    """
    flat = values.reshape(-1).astype(np.float64)
    distinct = np.unique(flat)
    if len(distinct) <= entries:
        few: NDArray[np.float32] = np.unique(distinct.astype(np.float32))
        return few
    counts, edges = np.histogram(flat, bins=_BINS)
    sums, _ = np.histogram(flat, bins=edges, weights=flat)
    filled = counts > 0
    weights, places = counts[filled], sums[filled] / counts[filled]
    levels = np.quantile(flat, (np.arange(entries) + 0.5) / entries)
    for _ in range(_ROUNDS):
        owner = np.searchsorted((levels[1:] + levels[:-1]) / 2, places)
        total = np.bincount(owner, weights=weights, minlength=entries)
        mean = np.bincount(owner, weights=weights * places, minlength=entries) / np.maximum(total, 1)
        moved = np.sort(np.where(total > 0, mean, levels))
        if np.array_equal(moved, levels):
            break
        levels = moved
    found: NDArray[np.float32] = np.unique(levels.astype(np.float32))
    return found


def powers_of_two(entries: int) -> NDArray[np.float32]:
    """Zero and ±1, ±1/2, ±1/4, … as far as there are entries, ascending: products with them are shifts."""
    levels = [0.0]
    magnitude = 1.0
    while len(levels) < entries:
        levels += [-magnitude, magnitude]
        magnitude /= 2
    return np.sort(np.array(levels[:entries], np.float32))


def nearest(values: NDArray[np.float32], levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The index of the nearest level to each value."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values).astype(np.uint8)


def replace_floats(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, book: Book, scale: NDArray[np.float32]
) -> list[onnx.NodeProto]:
    """Put a float32 initializer behind a codebook: the nodes that compute it under its old name.

    Args:
        graph: Its initializers are changed in place.
        tensor: The initializer.
        book: Its levels and indices.
        scale: Float32, what levels are multiplied by, of the tensor's rank.
    """
    name = tensor.name
    nodes = _indexed(graph, tensor, book.levels, book.indices, result=f"{name}/levels")
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}/scale"))
    nodes.append(helper.make_node("Mul", [f"{name}/levels", f"{name}/scale"], [name], name=f"{name}/decode"))
    return nodes


def replace_codes(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    """Put an initializer of int8 codes of at most 16 distinct values behind a codebook, with the very same codes.

    Raises:
        ValueError: It has more of them.
    """
    codes = numpy_helper.to_array(tensor)
    levels, indices = np.unique(codes, return_inverse=True)
    if len(levels) > 2**LARGEST_BITS:
        raise ValueError(f"{tensor.name!r} has {len(levels)} distinct codes")
    return _indexed(graph, tensor, levels, indices.reshape(codes.shape).astype(np.uint8), result=tensor.name)


def _indexed(
    graph: onnx.GraphProto,
    tensor: onnx.TensorProto,
    levels: NDArray[np.generic],
    indices: NDArray[np.uint8],
    *,
    result: str,
) -> list[onnx.NodeProto]:
    """Replace an initializer by levels and uint4 indices; return the nodes that look the levels up."""
    name = tensor.name
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(levels, f"{name}/codebook"))
    graph.initializer.append(numpy_helper.from_array(indices.astype(ml_dtypes.uint4), f"{name}/indices"))
    return [
        helper.make_node("Cast", [f"{name}/indices"], [f"{name}/places"], name=f"{name}/widen", to=TensorProto.INT32),
        helper.make_node("Gather", [f"{name}/codebook", f"{name}/places"], [result], name=f"{name}/look-up"),
    ]


def put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Nodes of constants alone, before all others."""
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])


def at_least_opset(model: onnx.ModelProto, step: str) -> onnx.ModelProto:
    """The model at opset 21 or newer.

    Raises:
        InputError: onnx cannot convert it.
    """
    entry = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if entry.version >= OPSET:
        return model
    if entry.version == OPSET - 1 and not any(node.op_type == "GroupNormalization" for node in model.graph.node):
        entry.version = OPSET  # the only operator whose meaning changed from 20 to 21
        return model
    convert: Callable[[onnx.ModelProto, int], onnx.ModelProto] = onnx.version_converter.convert_version
    try:
        return convert(model, OPSET)
    except Exception as error:  # the converter's exceptions share no base but Exception
        raise InputError(f"{step}: onnx cannot bring the graph to opset {OPSET}: {one_line(error)}") from error
