"""Hostile ONNX files that take all memory or time when they run."""

from __future__ import annotations

import itertools

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE
from corpus.onnx_models import (
    BOOL,
    INT64,
    MOST,
    STRING,
    calling,
    case,
    field,
    function,
    graph,
    model,
    node,
    numbers,
    value,
    wrapped,
)

MEMORY = "https://cwe.mitre.org/data/definitions/789.html"
ENDLESS = "https://cwe.mitre.org/data/definitions/835.html"


def _chain(operator: str, start: TensorProto, times: int, **given: object) -> ModelProto:
    """A value that is put together with itself again and again."""
    names = ["v0", *(f"v{index}" for index in range(1, times + 1))]
    nodes = [node(operator, [one, one], other, **given) for one, other in itertools.pairwise(names)]
    start.name = "v0"
    return model([*nodes, node("Identity", [names[-1]])], inputs=[], weights=[start])


def _loop(
    body: list[object], condition: str, count: list[str], weights: list[TensorProto], carried: tuple[str, ...] = ()
) -> ModelProto:
    states = [value(f"{name}_in", None) for name in carried]
    inner = graph(
        body,  # type: ignore[arg-type]
        [value("i", [], INT64), value("c", [], BOOL), *states],
        [value(condition, [], BOOL), *(value(f"{name}_out", None) for name in carried or ["i"])],
    )
    if not carried:
        inner.node.append(node("Identity", ["i"], "i_out"))
    outputs = [f"{name}_end" for name in carried] or ["unused"]
    loop = node("Loop", [*count, *carried], *outputs, body=inner)
    last = node("Relu", ["x"]) if not carried else node("Identity", [outputs[0]])
    return model([loop, last], weights=weights)


GOING = node("Identity", ["c"], "d")
TRUE = numpy_helper.from_array(np.array(True), "true")
ONES = numpy_helper.from_array(np.ones((4, 4), np.float32), "a")


def _growing(times: int) -> ModelProto:
    body = [GOING, node("Concat", ["a_in", "a_in"], "a_out", axis=0)]
    return _loop(body, "d", ["n", ""], [numbers("n", times, shape=()), ONES], ("a",))


def _nested_loops(levels: int, times: int) -> ModelProto:
    body = [node("Identity", ["c"], "d")]
    for level in range(levels):
        prefix = f"l{level}"
        inner = graph(
            body,
            [value(f"i{prefix}", [], INT64), value("c" if level == 0 else f"c{prefix}", [], BOOL)],
            [value("d" if level == 0 else f"d{prefix}", [], BOOL), value(f"o{prefix}", None)],
        )
        inner.node.append(node("Identity", [f"i{prefix}"], f"o{prefix}"))
        outer = f"l{level + 1}"
        body = [node("Loop", ["n", ""], f"u{outer}", body=inner), node("Identity", [f"c{outer}"], f"d{outer}")]
    return model([body[0], node("Relu", ["x"])], weights=[numbers("n", times, shape=())])


def _branch_bomb(condition: list[object], weights: list[TensorProto]) -> ModelProto:
    bomb = graph([node("ConstantOfShape", ["huge"], "z")], outputs=[value("z", None)])
    calm = graph([node("Relu", ["x"], "z2")], outputs=[value("z2", None)])
    nodes = [*condition, node("If", ["c"], then_branch=calm, else_branch=bomb)]
    return model(nodes, weights=[numbers("huge", 1 << 20, 1 << 20), *weights])  # type: ignore[arg-type]


def _for_another_size() -> ModelProto:
    """Small for 256, 512 and 64 columns, which the scan assumes; huge for any other number."""
    nodes = [
        node("Shape", ["x"], "s", start=1, end=2),
        node("Sub", ["s", "sizes"], "differences"),
        node("ReduceProd", ["differences"], "p", keepdims=1),
        node("Abs", ["p"], "n"),
        node("Mul", ["n", "much"], "m"),
        node("ConstantOfShape", ["m"]),
    ]
    weights = [numbers("sizes", 256, 512, 64), numbers("much", 1 << 20)]
    return model(nodes, inputs=[value("x", ["batch", "columns"])], weights=weights)


def made_of(operator: str, inputs: list[str], *weights: TensorProto, opset: int = 20, **given: object) -> ModelProto:
    return model([node(operator, inputs, **given)], weights=weights, opset=opset)


def floats(name: str, *numbers: float) -> TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.float32), name)


def _image(operator: str, inputs: list[str], *weights: TensorProto, opset: int = 20, **given: object) -> ModelProto:
    return model([node(operator, inputs, **given)], inputs=[value("x", ["n", 3, 32, 32])], weights=weights, opset=opset)


def _of_input(operator: str, shape: list[int], element: int = INT64, opset: int = 20) -> ModelProto:
    inputs = [value("n", shape, element)]
    given = {"ConstantOfShape": ["n"], "Expand": ["one", "n"], "Tile": ["one", "n"], "Range": ["zero", "n", "step"]}[
        operator
    ]
    weights = [floats("one", 1.0), numbers("zero", 0, shape=()), numbers("step", 1, shape=())]
    return model([node(operator, given)], inputs=inputs, weights=weights, opset=opset)


def _sequence_growth() -> ModelProto:
    body = [
        GOING,
        node("ConcatFromSequence", ["a_in"], "j", axis=0),
        node("SequenceInsert", ["a_in", "j"], "a_out"),
    ]
    made = _loop(body, "d", ["n", ""], [numbers("n", 60, shape=())], ("a",))
    made.graph.node.insert(0, node("SequenceConstruct", ["x"], "a"))
    return made


def _texts() -> TensorProto:
    return helper.make_tensor("v0", STRING, [1], [b"ha"])


def _wide_outer() -> ModelProto:
    nodes = [node("Range", ["zero", "n", "one"], "r"), node("Unsqueeze", ["r", "axis"], "t"), node("Mul", ["r", "t"])]
    weights = [
        numbers("zero", 0, shape=()),
        numbers("n", 1 << 20, shape=()),
        numbers("one", 1, shape=()),
        numbers("axis", 1),
    ]
    return model(nodes, weights=weights)


def _large_product() -> ModelProto:
    nodes = [node("ConstantOfShape", ["s"], "a")]
    nodes += [node("MatMul", ["a" if index == 0 else f"m{index - 1}", "a"], f"m{index}") for index in range(12)]
    return model([*nodes, node("ReduceSum", ["m11"])], weights=[numbers("s", 10_000, 10_000)])


def _wrapping() -> ModelProto:
    """2**33 by 2**33 is 2**66: in 64 bits it is 0, in bytes of memory it is not."""
    nodes = [node("Mul", ["a", "a"], "n"), node("Add", ["n", "b"], "s"), node("ConstantOfShape", ["s"])]
    return model(nodes, weights=[numbers("a", 1 << 33), numbers("b", 1 << 40)])


def _for_two_records() -> ModelProto:
    nodes = [
        node("Shape", ["x"], "s", start=0, end=1),
        node("Sub", ["s", "one"], "d"),
        node("Mul", ["d", "much"], "n"),
        node("ConstantOfShape", ["n"]),
    ]
    return model(nodes, weights=[numbers("one", 1), numbers("much", 1 << 40)])


def _in_function() -> ModelProto:
    nodes = [node("Constant", [], "s", value=numbers("", 1 << 40)), node("ConstantOfShape", ["s"])]
    return calling(function("F", nodes))


def _attribute_of_function() -> ModelProto:
    shaped = node("RandomNormal", [])
    shaped.attribute.append(AttributeProto(name="shape", type=AttributeProto.INTS, ref_attr_name="size"))
    body = function("F", [shaped])
    body.attribute.append("size")
    return model([node("F", ["x"], domain="own", size=[1 << 20, 1 << 20])], functions=[body], domains=["own"])


def _scan() -> ModelProto:
    body = graph(
        [node("Concat", ["a_in", "a_in"], "a_out", axis=0), node("Identity", ["p"], "q")],
        [value("a_in", None), value("p", None)],
        [value("a_out", None), value("q", None)],
    )
    nodes = [node("Scan", ["a", "steps"], "e", "o", body=body, num_scan_inputs=1), node("Identity", ["e"])]
    return model(nodes, weights=[ONES, numpy_helper.from_array(np.ones((60, 1), np.float32), "steps")])


def _known_rounds() -> ModelProto:
    return _loop([GOING], "d", ["n", ""], [numbers("n", 10**12, shape=())])


def _counting() -> ModelProto:
    """Ends after 2**40 rounds, by its own condition."""
    body = [node("Less", ["i", "limit"], "d")]
    return _loop(body, "d", [], [numbers("limit", 1 << 40, shape=())])


def _endless() -> ModelProto:
    made = _loop([GOING], "d", ["", "true"], [TRUE])
    made.graph.node[0].input[:] = ["", "true"]
    return made


def _data_loop() -> ModelProto:
    made = _loop([GOING], "d", ["n", ""], [])
    made.graph.input.append(value("n", [], INT64))
    return made


def _while_data() -> ModelProto:
    body = [
        node("Add", ["a_in", "a_in"], "a_out"),
        node("ReduceSum", ["a_out"], "t", keepdims=0),
        node("Less", ["t", "limit"], "d"),
    ]
    made = _loop(body, "d", ["", "true"], [TRUE, numpy_helper.from_array(np.float32(9), "limit")], ("a",))
    made.graph.node.insert(0, node("Relu", ["x"], "a"))
    return made


def _small_bomb() -> bytes:
    """A model of about a hundred bytes that asks for 2**33 bytes."""
    shape = field(1, 1) + field(2, 7) + field(9, (1 << 31).to_bytes(8, "little"))
    constant = field(2, b"s") + field(4, b"Constant") + field(5, field(1, b"value") + field(5, shape) + field(20, 4))
    filled = field(1, b"s") + field(2, b"y") + field(4, b"ConstantOfShape")
    return wrapped(field(1, constant) + field(1, filled) + field(12, field(1, b"y")))


TWICE = numbers("n", 1 << 20, 1 << 20)

COSTS = (
    case("bomb-of-a-hundred-bytes", _small_bomb, UNSAFE, MEMORY),
    case("bomb-constant-of-shape", made_of("ConstantOfShape", ["n"], TWICE), UNSAFE, MEMORY),
    case("bomb-constant-of-shape-by-input", _of_input("ConstantOfShape", [2]), UNKNOWN, MEMORY),
    case(
        "bomb-expand",
        model([node("Expand", ["x", "n"])], inputs=[value("x", ["n", 1])], weights=[TWICE]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-expand-by-input", _of_input("Expand", [3]), UNKNOWN, MEMORY),
    case("bomb-tile", made_of("Tile", ["x", "n"], TWICE), UNSAFE, MEMORY),
    case("bomb-tile-by-input", _of_input("Tile", [1]), UNKNOWN, MEMORY),
    case(
        "bomb-range",
        made_of(
            "Range",
            ["a", "b", "c"],
            numbers("a", 0, shape=()),
            numbers("b", 1 << 40, shape=()),
            numbers("c", 1, shape=()),
        ),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-range-tiny-steps",
        made_of(
            "Range",
            ["a", "b", "c"],
            *(numpy_helper.from_array(np.float32(each), name) for name, each in (("a", 0), ("b", 1), ("c", 1e-12))),
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-range-by-input", _of_input("Range", []), UNKNOWN, MEMORY),
    case("bomb-resize-scales", _image("Resize", ["x", "", "s"], floats("s", 1, 1, 1e4, 1e4)), UNSAFE, MEMORY),
    case(
        "bomb-resize-sizes", _image("Resize", ["x", "", "", "s"], numbers("s", 1, 3, 1 << 20, 1 << 20)), UNSAFE, MEMORY
    ),
    case("bomb-upsample", _image("Upsample", ["x", "s"], floats("s", 1, 1, 1e5, 1e5), opset=9), UNSAFE, MEMORY),
    case(
        "bomb-one-hot",
        model(
            [node("OneHot", ["i", "d", "v"])],
            inputs=[value("i", ["n", 4], INT64)],
            weights=[numbers("d", 1 << 40, shape=()), floats("v", 0, 1)],
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-pad", made_of("Pad", ["x", "p"], numbers("p", 0, 0, 1 << 20, 1 << 20)), UNSAFE, MEMORY),
    case("bomb-pad-attribute", made_of("Pad", ["x"], opset=10, pads=[0, 0, 1 << 20, 1 << 20]), UNSAFE, MEMORY),
    case("bomb-random", made_of("RandomNormal", [], shape=[1 << 20, 1 << 20]), UNSAFE, MEMORY),
    case(
        "bomb-eye",
        model([node("ConstantOfShape", ["n"], "c"), node("EyeLike", ["c"])], weights=[numbers("n", 1 << 17, 1 << 17)]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-samples", made_of("Multinomial", ["x"], sample_size=1 << 40), UNSAFE, MEMORY),
    case("bomb-window", made_of("HannWindow", ["n"], numbers("n", 1 << 40, shape=())), UNSAFE, MEMORY),
    case(
        "bomb-mel",
        made_of(
            "MelWeightMatrix",
            ["a", "b", "c", "d", "e"],
            *(numbers(each, 1 << 20, shape=()) for each in "abc"),
            floats("d", 1.0),
            floats("e", 2.0),
        ),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-product",
        model([node("Transpose", ["v"], "t"), node("MatMul", ["t", "v"])], inputs=[value("v", [1, 1 << 20])]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-outer", _wide_outer, UNSAFE, MEMORY),
    case("bomb-concat-chain", _chain("Concat", floats("v0", *range(8)), 40, axis=0), UNSAFE, MEMORY),
    case("bomb-texts-chain", _chain("StringConcat", _texts(), 40), UNSAFE, MEMORY),
    case(
        "bomb-einsum",
        model([node("Einsum", ["v", "v", "v"], equation="i,j,k->ijk")], inputs=[value("v", [1 << 12])]),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-convolution-pads",
        _image("Conv", ["x", "w"], numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w"), pads=[1 << 20] * 4),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-transposed-convolution",
        _image(
            "ConvTranspose",
            ["x", "w"],
            numpy_helper.from_array(np.ones((3, 1, 1, 1), np.float32), "w"),
            strides=[1 << 16, 1 << 16],
        ),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-gather",
        model(
            [node("Gather", ["w", "i"])],
            inputs=[value("i", [1 << 20], INT64)],
            weights=[numpy_helper.from_array(np.ones((2, 1 << 16), np.float32), "w")],
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-input", model(inputs=[value("x", [1 << 20, 1 << 20])]), UNSAFE, MEMORY),
    case(
        "bomb-spectrum",
        model([node("DFT", ["v", "n"])], inputs=[value("v", [1, 16, 1])], weights=[numbers("n", 1 << 40, shape=())]),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-n-grams",
        model(
            [
                node(
                    "TfIdfVectorizer",
                    ["v"],
                    mode="TF",
                    min_gram_length=1,
                    max_gram_length=1,
                    max_skip_count=0,
                    ngram_counts=[0],
                    ngram_indexes=[1 << 40],
                    pool_int64s=[1],
                )
            ],
            inputs=[value("v", [4], INT64)],
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-that-wraps", _wrapping, UNSAFE, "https://cwe.mitre.org/data/definitions/190.html"),
    case(
        "bomb-in-branch",
        _branch_bomb([node("ReduceMax", ["x"], "m", keepdims=0), node("Cast", ["m"], "c", to=BOOL)], []),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-in-branch-of-other-sizes",
        _branch_bomb([node("Size", ["x"], "m"), node("Equal", ["m", "four"], "c")], [numbers("four", 4, shape=())]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-for-other-sizes", _for_another_size, UNSAFE, MEMORY),
    case("bomb-for-two-records", _for_two_records, UNSAFE, MEMORY),
    case("bomb-in-function", _in_function, UNSAFE, MEMORY),
    case("bomb-in-attribute-of-function", _attribute_of_function, UNSAFE, MEMORY),
    case(
        "bomb-image-in-data",
        model([node("ImageDecoder", ["x"])], inputs=[value("x", ["n"], 2)]),
        UNKNOWN,
        "https://cwe.mitre.org/data/definitions/409.html",
    ),
    case("work-products", _large_product, UNSAFE, "https://cwe.mitre.org/data/definitions/400.html"),
    case("work-known-rounds", _known_rounds, UNSAFE, ENDLESS),
    case("work-nested-loops", _nested_loops(4, 100_000), UNSAFE, ENDLESS),
    case(
        "division-by-zero",
        model([node("Div", ["n", "z"])], inputs=[value("n", [3], INT64)], weights=[numbers("z", 1, 0, 1)]),
        UNSAFE,
        "https://cwe.mitre.org/data/definitions/369.html",
    ),
    case("loop-endless", _endless, UNSAFE, ENDLESS),
    case("loop-endless-count", _loop([GOING], "d", ["n", ""], [numbers("n", MOST, shape=())]), UNSAFE, ENDLESS),
    case("loop-counts-to-2-40", _counting, NEVER_SAFE, ENDLESS),
    case("loop-by-input", _data_loop, UNKNOWN, ENDLESS),
    case("loop-while-data", _while_data, UNKNOWN, ENDLESS),
    case("loop-that-doubles", _growing(60), UNSAFE, MEMORY),
    case("loop-sequence-that-doubles", _sequence_growth, NEVER_SAFE, MEMORY),
    case("scan-that-doubles", _scan, UNSAFE, MEMORY),
)
