"""Hostile ONNX files that look small because a bound seems to hold that a run breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from corpus import UNKNOWN, UNSAFE
from corpus.onnx_models import BOOL, INT64, attribute, calling, case, function, graph, model, node, numbers, value

MEMORY = "https://cwe.mitre.org/data/definitions/789.html"
CONVERSION = "https://cwe.mitre.org/data/definitions/681.html"
AMBIGUOUS = "https://cwe.mitre.org/data/definitions/436.html"
MANY = 10**9


def _floats(name: str, content: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(content, np.float32), name)


def _cast(number: float, *nodes: NodeProto) -> ModelProto:
    """As many zeros as a number that is none says once it is a whole number: 4 G, out of the least of all."""
    counted = [
        node("Cast", ["bounded"], "least", to=INT64),
        node("Div", ["least", "shift"], "below"),
        node("Neg", ["below"], "size"),
        node("ConstantOfShape", ["size"]),
    ]
    weights = [_floats("n", [number]), _floats("low", 0), _floats("high", 10), numbers("shift", 1 << 31)]
    return model([*nodes, *counted], inputs=[], weights=weights)


def _of_places(count: int, found: int, nodes: Sequence[NodeProto], wanted: str, *weights: TensorProto) -> ModelProto:
    """Zeros, `MANY` for each of a list of places, of whose length only a bound is known: `count`, not `found`."""
    hidden = _floats("hidden", [1.0] * found + [0.0] * (count - found))
    places = [node("NonZero", ["hidden"], "pairs"), node("Squeeze", ["pairs", "first"], "places")]
    last = [
        node("Shape", [wanted], "length"),
        node("Mul", ["length", "many"], "size"),
        node("ConstantOfShape", ["size"]),
    ]
    held = [hidden, numbers("first", 0), numbers("many", MANY), *weights]
    return model([*places, *nodes, *last], inputs=[], weights=held)


def _backwards() -> ModelProto:
    """From place 10 down to the sixth from the end: nothing of 5,000 places, three of 12."""
    ends = [numbers("start", 10), numbers("end", -6), numbers("axis", 0), numbers("step", -1)]
    cut = node("Slice", ["places", "start", "end", "axis", "step"], "part")
    return _of_places(5000, 12, [cut], "part", *ends)


def _unequal_parts() -> ModelProto:
    """In 72 parts: 5,041 places leave nothing for the last one, 144 leave two."""
    parts = [f"part{at}" for at in range(72)]
    return _of_places(5041, 144, [node("Split", ["places"], *parts, num_outputs=72)], parts[-1])


def _copied_size() -> ModelProto:
    """A list of 12 as a column whose height and width are both bounded by 5,000; then its width is kept."""
    nodes = [
        node("Shape", ["places"], "height"),
        node("Sub", ["height", "less"], "width"),
        node("Concat", ["height", "width"], "sizes", axis=0),
        node("Reshape", ["places", "sizes"], "column"),
        node("Reshape", ["column", "kept"], "other"),
        node("Squeeze", ["other", "second"], "list"),
    ]
    weights = [numbers("less", 11), numbers("kept", -1, 0), numbers("second", 1)]
    return _of_places(5000, 12, nodes, "list", *weights)


def _short_frames() -> ModelProto:
    """Frames as long as data say: one where they are as long as the signal, a million where they are short."""
    nodes = [node("ArgMax", ["x"], "long", axis=0, keepdims=0), node("STFT", ["signal", "step", "", "long"])]
    inputs = [value("x", [1_000_001]), value("signal", [1, 1_000_000, 1])]
    return model(nodes, inputs=inputs, weights=[numbers("step", 1, shape=())])


def _both_ways() -> ModelProto:
    slopes = node("PRelu", ["x", "slopes"])
    return model([slopes], inputs=[value("x", [50_000, 1])], weights=[_floats("slopes", np.ones((1, 50_000)))])


def _not_smaller() -> ModelProto:
    """A row of pixels, to be at least so high at one factor for height and width."""
    larger = node("Resize", ["x", "", "", "sizes"], keep_aspect_ratio_policy="not_smaller", mode="nearest")
    return model([larger], inputs=[value("x", [1, 1, 1, 100_000])], weights=[numbers("sizes", 1, 1, 100_000, 10)])


def _whole(
    element: int, nodes: Sequence[NodeProto], *weights: TensorProto, size: int = 1, times: int = 1
) -> ModelProto:
    """So many zeros for each of what nodes make of a whole number `x`, called `last`."""
    counted = [
        node("Cast", ["last"], "wide", to=INT64),
        node("Mul", ["wide", "times"], "product"),
        node("Reshape", ["product", "flat"], "size"),
        node("ConstantOfShape", ["size"]),
    ]
    held = [numbers("times", times), numbers("flat", -1), *weights]
    return model([*nodes, *counted], inputs=[value("x", [size], element)], weights=held)


def _opposite_of_the_least() -> ModelProto:
    """-128 has no opposite among eight bits."""
    return _whole(TensorProto.INT8, [node("Abs", ["x"], "last")], times=-MANY)


def _below_zero_without_sign() -> ModelProto:
    """Less than nothing is nearly 2^32 where there are no signs."""
    nodes = [node("Cast", ["x"], "wider", to=TensorProto.UINT32), node("Sub", ["nothing", "wider"], "last")]
    nothing = helper.make_tensor("nothing", TensorProto.UINT32, [1], [0])
    return _whole(TensorProto.UINT8, nodes, nothing)


def _sum_that_wraps() -> ModelProto:
    """Ten million bytes add up to more than 2^31."""
    nodes = [node("Cast", ["x"], "wider", to=TensorProto.INT32), node("ReduceSum", ["wider"], "last", keepdims=0)]
    return _whole(TensorProto.UINT8, nodes, size=10_000_000, times=-3)


def _least_of_nothing() -> ModelProto:
    """The least of no places at all is the largest number there is."""
    nodes = [
        node("NonZero", ["hidden"], "places"),
        node("ReduceMin", ["places"], "least", keepdims=0),
        node("Div", ["least", "shift"], "part"),
        node("Range", ["zero", "part", "one"]),
    ]
    weights = [numbers("shift", 1 << 32, shape=()), numbers("zero", 0, shape=()), numbers("one", 1, shape=())]
    hidden = _floats("hidden", [0.0] * 5000)
    return model(nodes, inputs=[], outputs=[value("y", None, INT64)], weights=[hidden, *weights])


def _even_then_doubling() -> ModelProto:
    """One more for 600 rounds, then twice as many each round."""
    more = graph([node("Concat", ["v", "one"], "a", axis=0)], [], [value("a", None)])
    twice = graph([node("Concat", ["v", "v"], "b", axis=0)], [], [value("b", None)])
    body = graph(
        [
            node("Less", ["i", "even"], "early"),
            node("If", ["early"], "w", then_branch=more, else_branch=twice),
            node("Identity", ["c"], "d"),
        ],
        [value("i", [], INT64), value("c", [], BOOL), value("v", None)],
        [value("d", [], BOOL), value("w", None)],
        [_floats("one", [1.0]), numbers("even", 600, shape=())],
    )
    weights = [numbers("n", 640, shape=()), _floats("start", [1.0])]
    return model([node("Loop", ["n", "", "start"], body=body)], inputs=[], weights=weights)


def _sequence(name: str) -> Any:
    return helper.make_tensor_sequence_value_info(name, INT64, None)


def _perhaps_never() -> ModelProto:
    """Five rounds, or none at all if the caller says so; what is left of five is none, or five."""
    body = graph(
        [node("Identity", ["c"], "d"), node("Identity", ["i"], "each")],
        [value("i", [], INT64), value("c", [], BOOL)],
        [value("d", [], BOOL), value("each", [], INT64)],
    )
    nodes = [
        node("Loop", ["n", "going"], "all", body=body),
        node("Shape", ["all"], "rounds"),
        node("Sub", ["five", "rounds"], "rest"),
        node("Mul", ["rest", "many"], "size"),
        node("ConstantOfShape", ["size"]),
    ]
    weights = [numbers("n", 5, shape=()), numbers("five", 5), numbers("many", MANY)]
    return model(nodes, inputs=[value("going", [], BOOL)], weights=weights)


def _number_in_a_sequence() -> ModelProto:
    """A number that a loop multiplies by ten, hidden in a sequence."""
    body = graph(
        [
            node("SequenceAt", ["s", "zero"], "a"),
            node("Mul", ["a", "ten"], "b"),
            node("SequenceConstruct", ["b"], "t"),
            node("Identity", ["c"], "d"),
        ],
        [value("i", [], INT64), value("c", [], BOOL), _sequence("s")],
        [value("d", [], BOOL), _sequence("t")],
        [numbers("zero", 0, shape=()), numbers("ten", 10)],
    )
    nodes = [
        node("SequenceConstruct", ["one"], "first"),
        node("Loop", ["n", "", "first"], "last", body=body),
        node("SequenceAt", ["last", "at"], "size"),
        node("ConstantOfShape", ["size"]),
    ]
    weights = [numbers("n", 10, shape=()), numbers("one", 1), numbers("at", 0, shape=())]
    return model(nodes, inputs=[], weights=weights)


def _optional_sequence() -> ModelProto:
    """A thousand tensors, counted behind an optional value."""
    nodes = [
        node("SplitToSequence", ["w"], "all", axis=0),
        node("Optional", ["all"], "some"),
        node("OptionalGetElement", ["some"], "again"),
        node("SequenceLength", ["again"], "count"),
        node("Sub", ["count", "one"], "more"),
        node("Mul", ["more", "many"], "product"),
        node("Reshape", ["product", "flat"], "size"),
        node("ConstantOfShape", ["size"]),
    ]
    weights = [numbers("one", 1, shape=()), numbers("many", 10**8, shape=()), numbers("flat", -1)]
    return model(nodes, inputs=[], weights=[_floats("w", np.ones((1000, 1))), *weights])


def _single_numbers() -> ModelProto:
    nodes = [node("SplitToSequence", ["x"], "all", axis=0), node("SequenceLength", ["all"])]
    return model(nodes, inputs=[value("x", [12_000_000, 1])], outputs=[value("y", [], INT64)])


def _without_version() -> ModelProto:
    added = node("Add", ["x", "row"])
    made = model([added], inputs=[value("x", [50_000, 1])], weights=[_floats("row", np.ones((1, 50_000)))])
    made.opset_import[0].domain, made.opset_import[0].version = "com.microsoft", 1
    return made


def _version_of_a_function() -> ModelProto:
    """In version 6, a sum has the shape of what stands first in it."""
    summed = function("f", [node("Transpose", ["x"], "t"), node("Add", ["x", "t"])], domains=())
    summed.opset_import[0].version = 6
    made = calling(summed)
    made.graph.input[0].CopyFrom(value("x", [50_000, 1]))
    return made


def _constant_of_two() -> ModelProto:
    constant = node("Constant", [], "size")
    constant.attribute.extend([attribute("__other", numbers("", 3)), attribute("value", numbers("", 2 * MANY))])
    return model([constant, node("ConstantOfShape", ["size"])], inputs=[])


BOUNDS = (
    case(
        "bound-of-nan", _cast(-1, node("Log", ["n"], "nan"), node("Sigmoid", ["nan"], "bounded")), UNKNOWN, CONVERSION
    ),
    case(
        "bound-of-nan-clipped",
        _cast(-1, node("Log", ["n"], "nan"), node("Clip", ["nan", "low", "high"], "bounded")),
        UNKNOWN,
        CONVERSION,
    ),
    case(
        "bound-of-nan-between",
        _cast(-1, node("Log", ["n"], "nan"), node("Max", ["nan", "low"], "m"), node("Min", ["m", "high"], "bounded")),
        UNKNOWN,
        CONVERSION,
    ),
    case("bound-of-root", _cast(-1, node("Sqrt", ["n"], "bounded")), UNKNOWN, CONVERSION),
    case("bound-backwards", _backwards, UNKNOWN, MEMORY),
    case("bound-unequal-parts", _unequal_parts, UNKNOWN, MEMORY),
    case("bound-copied-size", _copied_size, UNKNOWN, MEMORY),
    case("bound-short-frames", _short_frames, UNKNOWN, MEMORY),
    case("bound-of-least", _opposite_of_the_least, UNKNOWN, CONVERSION),
    case("bound-without-sign", _below_zero_without_sign, UNKNOWN, CONVERSION),
    case("bound-of-sum", _sum_that_wraps, UNKNOWN, CONVERSION),
    case("bound-of-nothing", _least_of_nothing, UNKNOWN, MEMORY),
    case("bomb-slopes-both-ways", _both_ways, UNSAFE, MEMORY),
    case("bomb-not-smaller", _not_smaller, UNKNOWN, MEMORY),
    case("loop-even-then-doubling", _even_then_doubling, UNKNOWN, MEMORY),
    case("loop-perhaps-never", _perhaps_never, UNKNOWN, MEMORY),
    case("loop-number-in-sequence", _number_in_a_sequence, UNKNOWN, MEMORY),
    case("bomb-counted-behind-optional", _optional_sequence, UNSAFE, MEMORY),
    case("bomb-sequence-of-numbers", _single_numbers, UNSAFE, MEMORY),
    case("version-missing", _without_version, UNKNOWN, AMBIGUOUS),
    case("version-of-function", _version_of_a_function, UNKNOWN, AMBIGUOUS),
    case("constant-of-two", _constant_of_two, UNKNOWN, AMBIGUOUS),
)
