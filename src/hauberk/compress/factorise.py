"""Low-rank factorisation: one large layer becomes two thin ones, where that is less work.

The singular value decomposition gives the nearest matrix of each rank (Eckart and Young 1936):

    linear:             W [inputs, outputs]      ≈ A [inputs, r] B [r, outputs]
    convolution, by channels (Zhang et al. 2016, arXiv:1505.06798):
                        W [O, I·k·k]             ≈ B [O, r] A [r, I·k·k]       k×k to r channels, then 1×1
    convolution, by space (Jaderberg et al. 2014, arXiv:1405.3866):
                        W [I·k, k·O] (permuted)  ≈ A [I·k, r] B [r, k·O]       k×1 to r channels, then 1×k

The rank is the smallest that keeps the wanted energy, the share of the squared singular values. A layer is left alone
where two thin ones would not have fewer parameters and fewer operations; of the two ways to split a convolution the
cheaper one is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import Core, read_core
from hauberk.compress.smaller import check_smaller
from hauberk.compress.teaching import teachers_lesson
from hauberk.compress.tuning import Tuning, tune
from hauberk.errors import InputError
from hauberk.graph.operations import Shapes, tensor_shapes
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, Contract, Lossy, Step

Floats = NDArray[np.float32]


class Factorise(Step, frozen=True, kw_only=True, tag="factorise"):
    """Split linear layers and convolutions into two of low rank, where that makes them smaller, and train them.

    Recurrent layers are left alone: their operators take their matrices whole.

    Attributes:
        energy: Share of the squared singular values to keep in each layer, in (0, 1].
        ratio: Rank as a share of the full rank, in (0, 1), instead of what `energy` asks for.
        layers: Energy of single layers by the name of their weight, 1 to leave one whole.
        tuning: How to train afterwards, taught by `Context.teacher` or else the graph as it was; `None` does not train.
    """

    energy: float = 0.9
    ratio: float | None = None
    layers: dict[str, float] = {}  # noqa: RUF012 - msgspec copies the default of a field
    tuning: Tuning | None = Tuning()

    trains: ClassVar[bool] = True
    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.9)

    def __post_init__(self) -> None:
        for what, value in (
            ("energy", self.energy),
            *((f"energy of {name!r}", each) for name, each in self.layers.items()),
        ):
            if not 0 < value <= 1:
                raise InputError(f"{self.name}: {what} is {value}; a share above 0 and at most 1 is needed")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise InputError(f"{self.name}: ratio is {self.ratio}; a share above 0 and below 1 is needed")

    @property
    def contract(self) -> Contract:
        """Decisions agree on 90 % of real records; logits are the trained graph's own."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """Which layers are not looked at, whatever their rank."""
        graph = read_core(artifact, self.name).model.graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        weights = [node.input[1] for node in graph.node if _layer(node, constants)]
        said = []
        for node in graph.node:
            if node.op_type in ("LSTM", "GRU", "RNN"):
                said.append(
                    f"{node.op_type} {(node.output[0] or node.name)!r} stays whole: it takes its matrices whole"
                )
            elif _layer(node, constants) and weights.count(node.input[1]) > 1:
                said.append(f"{node.op_type} {node.output[0]!r} stays whole: other layers share {node.input[1]!r}")
        return tuple(said)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the graph with thin layers; not trained where `context.trained` is False.

        Raises:
            InputError: Not a float core, no layer that would get smaller, weights that are not finite, `layers` names
                no weight, or there are no records to train on.
            ContractError: The result is not smaller in every respect.
        """
        core = read_core(artifact, self.name)
        core.require_float()
        thin = read_core(artifact, self.name)
        if not self._split(thin):
            raise InputError(f"{self.name}: nothing to factorise, no layer would have fewer parameters and operations")
        result = thin.finished(thin.model)
        if context.trained and self.tuning is not None:
            lesson = teachers_lesson(core.artifact, context, self.tuning, step=self.name)
            twin = Twin(result)
            tune(twin, context, self.tuning, step=self.name, lesson=lesson)
            result = core.finished(read_core(twin.to_artifact(), self.name).model)
        check_smaller(core, result)
        return result

    def _split(self, core: Core) -> int:
        """Split what gains, in place; return how many layers that was."""
        graph, shapes = core.model.graph, tensor_shapes(core.model, batch=1)
        constants = {tensor.name: tensor for tensor in graph.initializer}
        layers = {node.output[0]: node for node in graph.node if _layer(node, constants)}
        weights = [node.input[1] for node in layers.values()]
        if unknown := next((name for name in self.layers if name not in weights), ""):
            raise InputError(
                f"{self.name}: there is no weight {unknown!r}; weights are {', '.join(dict.fromkeys(weights))}"
            )
        nodes, made = [], 0
        for node in graph.node:
            split = None
            if node.output[0] in layers and weights.count(node.input[1]) == 1:
                weight = numpy_helper.to_array(constants[node.input[1]])
                if not np.isfinite(weight).all():
                    raise InputError(f"{self.name}: weights {node.input[1]!r} are not finite")
                split = self._best(node, weight, shapes)
            if split is None:
                nodes.append(node)
                continue
            made += 1
            graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in split.constants.items())
            nodes += split.nodes
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(nodes)
        return made

    def _best(self, node: onnx.NodeProto, weight: Floats, shapes: Shapes) -> Split | None:
        """The cheapest way to split a layer; `None` where none gains."""
        own = self.layers.get(node.input[1])

        def rank(values: NDArray[np.float64]) -> int:
            return self._rank(values, self.energy if own is None else own, named=own is not None)

        ways = _convolutions if node.op_type == "Conv" else _linear
        whole = math.prod(shapes[node.output[0]]) * (weight.size // _outputs(node, weight))
        splits = ways(node, weight, rank, shapes)
        gaining = [split for split in splits if split.parameters < weight.size and split.macs < whole]
        return min(gaining, key=lambda split: split.macs, default=None)

    def _rank(self, values: NDArray[np.float64], energy: float, *, named: bool) -> int:
        """The rank to keep of a matrix with these singular values, descending."""
        if self.ratio is not None and not named:
            return max(1, round(self.ratio * len(values)))
        kept = np.cumsum(np.square(values))
        if energy >= 1 or kept[-1] == 0:
            return len(values)
        return int(np.searchsorted(kept, energy * kept[-1])) + 1


@dataclass(frozen=True)
class Split:
    """Two nodes in the place of one.

    Attributes:
        nodes: In order; the last gives the result that the one gave.
        constants: Their weights by name.
        macs: Multiply-accumulate operations of both for one record.
    """

    nodes: tuple[onnx.NodeProto, ...]
    constants: dict[str, Floats]
    macs: int

    @property
    def parameters(self) -> int:
        """Weights of both."""
        return sum(value.size for value in self.constants.values())


def _layer(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a node is one that can be split: a matrix or a kernel on the right, in one group."""
    if node.op_type not in ("Gemm", "MatMul", "Conv") or node.domain or node.input[1] not in constants:
        return False
    weight, options = constants[node.input[1]], _options(node)
    if weight.data_type != onnx.TensorProto.FLOAT:
        return False
    if node.op_type == "Conv":
        plain = options.get("auto_pad", b"NOTSET") == b"NOTSET" and options.get("group", 1) == 1
        return plain and len(weight.dims) in (3, 4)
    return len(weight.dims) == 2 and not options.get("transA", 0)


def _options(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _outputs(node: onnx.NodeProto, weight: Floats) -> int:
    """Outputs of a layer for each place: columns of the matrix, kernels of the convolution."""
    rows: bool = node.op_type == "Conv" or bool(_options(node).get("transB", 0))
    return int(weight.shape[0] if rows else weight.shape[1])


Rank = Callable[[NDArray[np.float64]], int]


def factors(matrix: NDArray[np.floating[Any]], rank: Rank) -> tuple[Floats, Floats]:
    """The nearest product of two thin matrices, the singular values shared between them by their roots.

    Args:
        matrix: [M, N].
        rank: From the singular values, descending, to the rank r.

    Returns:
        Float32 [M, r] and [r, N].
    """
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    size = rank(values)
    roots = np.sqrt(values[:size])
    return (left[:, :size] * roots).astype(np.float32), (roots[:, None] * right[:size]).astype(np.float32)


def _linear(node: onnx.NodeProto, weight: Floats, rank: Rank, shapes: Shapes) -> Iterator[Split]:
    options, result, stem = _options(node), node.output[0], node.input[1]
    matrix = weight.T if options.get("transB", 0) else weight
    first, second = factors(matrix * np.float32(options.get("alpha", 1.0)), rank)
    names = f"{stem}/first", f"{stem}/second"
    middle = f"{result}/thin"
    narrow = helper.make_node(node.op_type, [node.input[0], names[0]], [middle], name=middle)
    rest = {"beta": options["beta"]} if "beta" in options else {}
    wide = helper.make_node(node.op_type, [middle, names[1], *node.input[2:]], [result], name=node.name, **rest)
    places = math.prod(shapes[result][:-1])
    yield Split((narrow, wide), dict(zip(names, (first, second), strict=True)), places * (first.size + second.size))


def _convolutions(node: onnx.NodeProto, weight: Floats, rank: Rank, shapes: Shapes) -> Iterator[Split]:
    outputs, inputs, *kernel = weight.shape
    dims, options, result = len(kernel), _options(node), node.output[0]
    strides, dilations = (list(options.get(name, [1] * dims)) for name in ("strides", "dilations"))
    pads = list(options.get("pads", [0] * (2 * dims)))
    space = list(shapes[result][2:])

    flat_second, flat_first = factors(weight.reshape(outputs, -1), rank)
    size = flat_first.shape[0]
    first = flat_first.reshape(size, inputs, *kernel)
    second = flat_second.reshape(outputs, size, *[1] * dims)
    whole = {"strides": strides, "dilations": dilations, "pads": pads}
    plain = {"strides": [1] * dims, "dilations": [1] * dims, "pads": [0] * (2 * dims)}
    macs = math.prod(space) * (first.size + second.size)
    yield _pair(node, first, whole, second, plain, macs)
    if dims != 2 or 1 in kernel:
        return
    height, width = kernel
    tall, flat = factors(weight.transpose(1, 2, 3, 0).reshape(inputs * height, width * outputs), rank)
    size = tall.shape[1]
    first = np.ascontiguousarray(tall.T.reshape(size, inputs, height, 1))
    second = np.ascontiguousarray(flat.reshape(size, width, outputs).transpose(2, 0, 1)[:, :, None, :])
    down = {"strides": [strides[0], 1], "dilations": [dilations[0], 1], "pads": [pads[0], 0, pads[2], 0]}
    across = {"strides": [1, strides[1]], "dilations": [1, dilations[1]], "pads": [0, pads[1], 0, pads[3]]}
    between = space[0] * shapes[node.input[0]][3]
    yield _pair(node, first, down, second, across, between * first.size + math.prod(space) * second.size)


def _pair(
    node: onnx.NodeProto,
    first: Floats,
    one: dict[str, Any],
    second: Floats,
    other: dict[str, Any],
    macs: int,
) -> Split:
    """Two convolutions in a row; the second has the bias."""
    names, middle = (f"{node.input[1]}/first", f"{node.input[1]}/second"), f"{node.output[0]}/thin"
    narrow = helper.make_node(
        "Conv", [node.input[0], names[0]], [middle], name=middle, kernel_shape=list(first.shape[2:]), **one
    )
    wide = helper.make_node(
        "Conv",
        [middle, names[1], *node.input[2:]],
        [node.output[0]],
        name=node.name,
        kernel_shape=list(second.shape[2:]),
        **other,
    )
    return Split((narrow, wide), dict(zip(names, (first, second), strict=True)), macs)
