"""Random small ONNX graphs over the common operators, valid by construction, the same ones for the same seed.

A graph grows node by node from a few inputs. After every node onnx infers its shape; what it refuses is not added. What
optimisers look for is drawn often: repeated nodes, dead ends, neutral constants, chains of casts, reshapes and
transpositions, layers with a scale behind them, initializers that are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from random_growth import FLOAT, INT, Growth, Shape, Value

_UNARY = (
    "Abs", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "Identity", "LeakyRelu", "Neg",
    "Reciprocal", "Relu", "Relu", "Round", "Sigmoid", "Sign", "Softplus", "Sqrt", "Tanh",
)  # fmt: skip
_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")


def random_graph(seed: int) -> onnx.ModelProto:
    """A graph of one to three inputs, up to 24 nodes and one to three outputs."""
    return grown(np.random.default_rng(seed))


def grown(random: Any) -> onnx.ModelProto:
    """The graph that a source of decisions makes: a `numpy.random.Generator`, or `random_draws.Drawn`."""
    growth = Growth(random)
    shapes: list[Shape] = [("batch", 8), ("batch", 6, 4), ("batch", 4, 6, 6), ("batch", 1, 4), (3, 4), ("batch", 8)]
    for index in range(int(random.choice([1, 1, 1, 2, 3]))):
        growth.inputs.append(Value(f"x{index}", FLOAT, shapes[random.integers(len(shapes))]))
    if random.random() < 0.2:
        growth.inputs.append(Value("i", INT, ("batch",)))
    growth.values += growth.inputs
    wanted = int(random.integers(3, 25))
    for _ in range(6 * wanted):
        if len(growth.nodes) >= wanted:
            break
        _GROW[random.integers(len(_GROW))](growth)
    if not growth.nodes:
        growth.add("Relu", [growth.inputs[0].name])
    return _finished(growth)


def _finished(growth: Growth) -> onnx.ModelProto:
    """The model with outputs: the last value, now and then others; what leads to none of them stays as dead code."""
    random = growth.random
    made = [value for value in growth.values if value not in growth.inputs]
    chosen = {made[-1].name: made[-1]}
    for _ in range(int(random.choice([0, 0, 1, 2]))):
        value = made[random.integers(len(made))]
        chosen[value.name] = value
    outputs = [helper.make_tensor_value_info(value.name, value.kind, value.shape) for value in chosen.values()]
    return growth.model(growth.nodes, outputs)


def _axis(growth: Growth, value: Value) -> int | None:
    """An axis of a fixed size."""
    axes = [axis for axis, size in enumerate(value.shape) if isinstance(size, int)]
    return int(growth.random.choice(axes)) if axes else None


def _sign(growth: Growth, axis: int, rank: int) -> int:
    """An axis, counted from the end now and then."""
    return axis - rank if growth.random.random() < 0.3 else axis


def _unary(growth: Growth) -> None:
    if value := growth.one_of():
        operator = str(growth.random.choice(_UNARY))
        if operator in {"Sqrt", "Reciprocal"}:  # kept away from where they have no value
            inner = growth.add("Abs", [value.name])
            value = growth.add("Add", [inner[0].name, growth.constant(np.array(0.5, np.float32))])[0]
        if operator == "Exp":
            ends = [growth.constant(np.array(end, np.float32)) for end in (-5, 5)]
            value = growth.add("Clip", [value.name, *ends])[0]
        growth.add(operator, [value.name])


def _binary(growth: Growth) -> None:
    if not (value := growth.one_of()):
        return
    operator = str(growth.random.choice(["Add", "Add", "Sub", "Mul", "Mul", "Div", "Max", "Min"]))
    fixed = [size if isinstance(size, int) else 1 for size in value.shape]
    shape = [(), (1,), tuple(fixed[-1:]), tuple(fixed), tuple(fixed[1:])][growth.random.integers(5)]
    other = growth.floats(*shape)
    if operator == "Div":
        numbers = growth.random.choice([2.0, 4.0, 3.0, 0.7, -5.0, 1.0], size=shape).astype(np.float32)
        other = growth.constant(np.asarray(numbers))
    elif growth.random.random() < 0.3 and (second := growth.one_of(rank=len(value.shape))):
        other = second.name
    pair = [value.name, other]
    if operator != "Div" and growth.random.random() < 0.4:
        pair.reverse()
    growth.add(operator, pair)


def _power(growth: Growth) -> None:
    if value := growth.one_of():
        exponent = float(growth.random.choice([0.0, 1.0, 2.0, 3.0, 0.5, -1.0]))
        if exponent in {0.5, -1.0}:
            inner = growth.add("Abs", [value.name])[0]
            value = growth.add("Add", [inner.name, growth.constant(np.array(0.5, np.float32))])[0]
        growth.add("Pow", [value.name, growth.constant(np.array(exponent, np.float32))])


def _gemm(growth: Growth) -> None:
    value = growth.one_of(rank=2)
    if value and isinstance(value.shape[1], int):
        width, turned = int(growth.random.integers(1, 9)), int(growth.random.integers(2))
        shape = (width, value.shape[1]) if turned else (value.shape[1], width)
        bias = [growth.floats(*shapes) for shapes in ((width,), (1, width), (1,))][: growth.random.integers(4)][-1:]
        scales: dict[str, Any] = {"alpha": 0.5, "beta": 2.0} if growth.random.random() < 0.2 else {}
        growth.add("Gemm", [value.name, growth.floats(*shape), *bias], transB=turned, **scales)


def _matmul(growth: Growth) -> None:
    value = growth.one_of()
    if value and len(value.shape) >= 2 and isinstance(value.shape[-1], int):
        made = growth.add("MatMul", [value.name, growth.floats(value.shape[-1], int(growth.random.integers(1, 9)))])
        if made and growth.random.random() < 0.6 and isinstance(made[0].shape[-1], int):
            pair = [made[0].name, growth.floats(made[0].shape[-1])]
            growth.add("Add", pair if growth.random.random() < 0.7 else pair[::-1])


def _convolution(growth: Growth) -> None:
    value = growth.one_of(rank=int(growth.random.choice([3, 4, 4])))
    if not value or not isinstance(value.shape[1], int):
        return
    spatial, channels = len(value.shape) - 2, value.shape[1]
    group = channels if growth.random.random() < 0.25 else 1
    out = group * int(growth.random.integers(1, 4))
    size = int(growth.random.choice([1, 1, 2, 3]))
    weights = [growth.floats(out, channels // group, *[size] * spatial)]
    if growth.random.random() < 0.6:
        weights.append(growth.floats(out))
    pad = int(growth.random.integers(0, size)) if size > 1 else 0
    source = value.name
    if growth.random.random() < 0.2:
        edges = growth.whole(*([0, 0] + [1] * spatial) * 2)
        padded = growth.add("Pad", [source, edges], mode=str(growth.random.choice(["constant", "edge"])))
        source = padded[0].name if padded else source
    strides = [int(growth.random.choice([1, 1, 2]))] * spatial
    made = growth.add("Conv", [source, *weights], group=group, pads=[pad] * 2 * spatial, strides=strides)
    if made and growth.random.random() < 0.5:
        _normalise(growth, made[0])


def _normalise(growth: Growth, value: Value | None = None) -> None:
    value = value or growth.one_of()
    if not value or len(value.shape) < 2 or not isinstance(value.shape[1], int):
        return
    width = value.shape[1]
    variance = growth.constant(growth.random.uniform(0.2, 2, width).astype(np.float32))
    growth.add("BatchNormalization", [value.name, *(growth.floats(width) for _ in range(3)), variance])


def _layer_norm(growth: Growth) -> None:
    value = growth.one_of()
    if value and len(value.shape) >= 2 and isinstance(value.shape[-1], int) and value.shape[-1] > 1:
        width = value.shape[-1]
        if growth.random.random() < 0.5:
            growth.add("LayerNormalization", [value.name, growth.floats(width), growth.floats(width)], axis=-1)
            return
        last = growth.whole(-1)
        mean = growth.add("ReduceMean", [value.name, last])[0]
        centred = growth.add("Sub", [value.name, mean.name])[0]
        square = growth.add("Pow", [centred.name, growth.constant(np.array(2, np.float32))])[0]
        variance = growth.add("ReduceMean", [square.name, last])[0]
        safe = growth.add("Add", [variance.name, growth.constant(np.array(1e-5, np.float32))])[0]
        root = growth.add("Sqrt", [safe.name])[0]
        scaled = growth.add("Div", [centred.name, root.name])[0]
        weighted = growth.add("Mul", [scaled.name, growth.floats(width)])[0]
        growth.add("Add", [weighted.name, growth.floats(width)])


def _gelu_in_parts(growth: Growth) -> None:
    if value := growth.one_of():
        root = growth.constant(np.array(np.sqrt(2), np.float32))
        scaled = growth.add("Div", [value.name, root])[0]
        erf = growth.add("Erf", [scaled.name])[0]
        more = growth.add("Add", [erf.name, growth.constant(np.array(1, np.float32))])[0]
        product = growth.add("Mul", [value.name, more.name])[0]
        growth.add("Mul", [product.name, growth.constant(np.array(0.5, np.float32))])


def _pool(growth: Growth) -> None:
    if value := growth.one_of(rank=4):
        operator = str(growth.random.choice(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"]))
        window: dict[str, Any] = {}
        if not operator.startswith("Global"):
            window = {"kernel_shape": [2, 2], "strides": [1, 2], "pads": [0, 1, 0, 1]}
        if operator == "AveragePool":
            window["count_include_pad"] = int(growth.random.integers(2))
        growth.add(operator, [value.name], **window)


def _softmax(growth: Growth) -> None:
    if (value := growth.one_of()) and (axis := _axis(growth, value)) is not None:
        operator = str(growth.random.choice(["Softmax", "LogSoftmax"]))
        growth.add(operator, [value.name], axis=_sign(growth, axis, len(value.shape)))


def _reduce(growth: Growth) -> None:
    if (value := growth.one_of()) and (axis := _axis(growth, value)) is not None:
        axes = growth.whole(_sign(growth, axis, len(value.shape)))
        growth.add(str(growth.random.choice(_REDUCTIONS)), [value.name, axes], keepdims=int(growth.random.integers(2)))


def _transpose(growth: Growth) -> None:
    if (value := growth.one_of()) and len(value.shape) >= 2:
        order = [int(axis) for axis in growth.random.permutation(len(value.shape))]
        made = growth.add("Transpose", [value.name], perm=order)
        if made and growth.random.random() < 0.5:
            middle = growth.add("Relu", [made[0].name])[0] if growth.random.random() < 0.5 else made[0]
            growth.add("Transpose", [middle.name], perm=[order.index(axis) for axis in range(len(order))])


def _reshape(growth: Growth) -> None:
    value = growth.one_of()
    if not value or len(value.shape) < 2 or not all(isinstance(size, int) for size in value.shape[1:]):
        return
    rest = int(np.prod([size for size in value.shape[1:] if isinstance(size, int)]))
    divisors = [size for size in range(1, rest + 1) if rest % size == 0]
    size = int(growth.random.choice(divisors))
    targets = [(0, -1), (-1, rest), (0, size, rest // size), (0, size, -1), (-1, size)]
    made = growth.add("Reshape", [value.name, growth.whole(*targets[growth.random.integers(len(targets))])])
    if made and growth.random.random() < 0.4:
        growth.add("Reshape", [made[0].name, growth.whole(0, -1)])


def _dimensions(growth: Growth) -> None:
    if value := growth.one_of():
        choice = growth.random.integers(3)
        ones = [axis for axis, size in enumerate(value.shape) if size == 1]
        if choice == 0 and ones:
            growth.add("Squeeze", [value.name, growth.whole(int(growth.random.choice(ones)))])
        elif choice == 1:
            growth.add("Unsqueeze", [value.name, growth.whole(int(growth.random.integers(len(value.shape) + 1)))])
        else:
            growth.add("Flatten", [value.name], axis=1)


def _slice(growth: Growth) -> None:
    if (value := growth.one_of()) and (axis := _axis(growth, value)) is not None:
        size = int(value.shape[axis])
        start = int(growth.random.integers(0, size))
        stop = int(
            growth.random.choice([size, 2**31, max(start + 1, int(size) - 1), -1 if start < int(size) - 1 else size])
        )
        step = int(growth.random.choice([1, 1, 2]))
        where = _sign(growth, axis, len(value.shape))
        growth.add(
            "Slice", [value.name, growth.whole(start), growth.whole(stop), growth.whole(where), growth.whole(step)]
        )


def _gather(growth: Growth) -> None:
    if (value := growth.one_of()) and (axis := _axis(growth, value)) is not None:
        size = int(value.shape[axis])
        count = int(growth.random.integers(1, 4))
        picked = growth.random.integers(-size, size, count)
        indices = growth.constant(picked if growth.random.random() < 0.7 else np.array(picked[0]))
        growth.add("Gather", [value.name, indices], axis=_sign(growth, axis, len(value.shape)))


def _join(growth: Growth) -> None:
    first = growth.one_of()
    if first and (axis := _axis(growth, first)) is not None:
        same = [
            value
            for value in growth.values
            if value.kind == FLOAT
            and len(value.shape) == len(first.shape)
            and all(a == b for i, (a, b) in enumerate(zip(value.shape, first.shape, strict=True)) if i != axis)
        ]
        others = [
            same[index].name for index in growth.random.integers(len(same), size=int(growth.random.integers(1, 3)))
        ]
        growth.add("Concat", [first.name, *others], axis=_sign(growth, axis, len(first.shape)))


def _split(growth: Growth) -> None:
    if (value := growth.one_of()) and (axis := _axis(growth, value)) is not None:
        size = int(value.shape[axis])
        if size >= 2:
            left = int(growth.random.integers(1, size))
            growth.add("Split", [value.name, growth.whole(left, size - left)], outputs=2, axis=axis)


def _grow_shape(growth: Growth) -> None:
    if value := growth.one_of():
        rank = len(value.shape)
        choice = growth.random.integers(3)
        if choice == 0:
            growth.add("Expand", [value.name, growth.whole(*([1] * rank))])
        elif choice == 1:
            growth.add("Tile", [value.name, growth.whole(*([1] * (rank - 1)), int(growth.random.integers(1, 3)))])
        else:
            edges = [0] * (2 * rank)
            edges[rank - 1], edges[2 * rank - 1] = (int(number) for number in growth.random.integers(0, 3, 2))
            mode = str(growth.random.choice(["constant", "constant", "edge"]))
            growth.add("Pad", [value.name, growth.whole(*edges)], mode=mode)


def _choose(growth: Growth) -> None:
    if value := growth.one_of():
        operator = str(growth.random.choice(["Greater", "Less", "GreaterOrEqual", "LessOrEqual"]))
        threshold = growth.constant(np.array(growth.random.choice([0.0, 0.5]), np.float32))
        mask = growth.add(operator, [value.name, threshold])[0]
        if growth.random.random() < 0.3:
            mask = growth.add("Not", [mask.name])[0]
        growth.add("Where", [mask.name, value.name, growth.floats()])


def _cast(growth: Growth) -> None:
    if value := growth.one_of():
        kinds = [INT, TensorProto.INT32, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.FLOAT]
        low, high = (growth.constant(np.array(end, np.float32)) for end in (-1000, 1000))
        inner = growth.add("Clip", [value.name, low, high])[0]
        for kind in growth.random.choice(kinds, int(growth.random.integers(1, 3))):
            inner = growth.add("Cast", [inner.name], to=int(kind))[0]
        growth.add("Cast", [inner.name], to=FLOAT)


def _clip(growth: Growth) -> None:
    if value := growth.one_of():
        ends = [growth.constant(np.array(end, np.float32)) for end in growth.random.choice([-30, -1, 0, 1, 6, 50], 2)]
        choice = growth.random.integers(3)
        growth.add("Clip", [value.name, *([ends[0]], ["", ends[1]], sorted(ends))[choice]])


def _one_hot(growth: Growth) -> None:
    index = growth.one_of(INT)
    if index is None:
        value = growth.one_of()
        axis = None if value is None else _axis(growth, value)
        if value is None or axis is None:
            return
        (index,) = growth.add("ArgMax", [value.name], axis=axis, keepdims=0) or (None,)
    if index is not None:
        depth = int(growth.random.integers(2, 7))
        ends = growth.constant(np.array([0, 1], np.float32))
        made = growth.add("OneHot", [index.name, growth.constant(np.array(depth)), ends])
        if made and growth.random.random() < 0.7:
            growth.add("MatMul", [made[0].name, growth.floats(depth, 4)])


def _resize(growth: Growth) -> None:
    if value := growth.one_of(rank=4):
        scales = growth.constant(np.array([1, 1, 2, 2], np.float32))
        mode = str(growth.random.choice(["nearest", "linear"]))
        growth.add("Resize", [value.name, "", scales], mode=mode)


def _shape_of(growth: Growth) -> None:
    """The chain that exporters write for `x.reshape(x.size(0), -1)`."""
    if (value := growth.one_of()) and len(value.shape) >= 2:
        shape = growth.add("Shape", [value.name])[0]
        batch = growth.add("Gather", [shape.name, growth.whole(0)])
        target = growth.add("Concat", [batch[0].name, growth.whole(-1)], axis=0)
        growth.add("Reshape", [value.name, target[0].name])


def _repeat(growth: Growth) -> None:
    """The same node once more."""
    if growth.nodes:
        node = growth.nodes[growth.random.integers(len(growth.nodes))]
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        growth.add(node.op_type, list(node.input), outputs=len(node.output), **attributes)


def _constant_node(growth: Growth) -> None:
    if value := growth.one_of():
        made = growth.add(
            "Constant", [], value=numpy_helper.from_array(growth.random.normal(size=1).astype(np.float32))
        )
        growth.add("Add", [value.name, made[0].name])


def _neutral(growth: Growth) -> None:
    """What an optimiser would take away, rightly or not."""
    if value := growth.one_of():
        operator, number = [("Add", 0.0), ("Mul", 1.0), ("Sub", 0.0), ("Div", 1.0), ("Mul", 0.0), ("Add", -0.0)][
            growth.random.integers(6)
        ]
        growth.add(operator, [value.name, growth.constant(np.array(number, np.float32))])


_GROW: tuple[Callable[[Growth], None], ...] = (
    _unary, _unary, _unary, _binary, _binary, _binary, _power, _gemm, _gemm, _matmul, _matmul, _convolution,
    _convolution, _normalise, _layer_norm, _gelu_in_parts, _pool, _softmax, _reduce, _reduce, _transpose, _transpose,
    _reshape, _reshape, _dimensions, _slice, _slice, _gather, _gather, _join, _split, _grow_shape, _choose, _cast,
    _clip, _one_hot, _resize, _shape_of, _repeat, _repeat, _constant_node, _neutral, _neutral,
)  # fmt: skip
