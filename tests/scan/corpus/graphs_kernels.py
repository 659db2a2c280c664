"""Hostile ONNX files that bring the kernels of a runtime down by an attribute or a number alone."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from corpus import UNKNOWN, UNSAFE
from corpus.onnx_models import INT64, case, model, node, numbers, value

MEMORY = "https://cwe.mitre.org/data/definitions/789.html"
OVERFLOW = "https://cwe.mitre.org/data/definitions/190.html"
LEAST = -(1 << 63)


def _divided(operator: str, element: int, least: int) -> ModelProto:
    weights = [helper.make_tensor("a", element, [2], [1, least]), helper.make_tensor("b", element, [2], [1, -1])]
    return model([node(operator, ["a", "b"])], inputs=[], outputs=[value("y", None, element)], weights=weights)


def _filled(name: str, number: int, count: int = 5000) -> tuple[object, TensorProto]:
    """A node that makes as many equal numbers, too many for their values to be kept, and its input."""
    filled = node("ConstantOfShape", [f"{name}_size"], name, value=helper.make_tensor("", INT64, [1], [number]))
    return filled, numbers(f"{name}_size", count)


def _large_division() -> ModelProto:
    (first, size), (second, other) = _filled("a", LEAST), _filled("b", -1)
    return model([first, second, node("Div", ["a", "b"])], weights=[size, other])  # type: ignore[list-item]


def _division_by_filled_zero() -> ModelProto:
    filled, size = _filled("b", 0)
    nodes = [filled, node("Div", ["n", "b"])]
    return model(nodes, inputs=[value("n", [5000], INT64)], weights=[size])  # type: ignore[arg-type]


def _unkept_division() -> ModelProto:
    """Least numbers among so many that the scan keeps none of them."""
    many = numpy_helper.from_array(np.full(5000, LEAST, np.int64), "a")
    return model([node("Div", ["a", "b"])], inputs=[], weights=[many, numbers("b", -1)])


def _regions(ratio: int, *corners: float, **more: object) -> ModelProto:
    regions = numpy_helper.from_array(np.array([corners], np.float32), "r")
    pooled = node("RoiAlign", ["x", "r", "b"], output_height=2, output_width=2, sampling_ratio=ratio, **more)
    return model([pooled], inputs=[value("x", [1, 1, 4, 4])], weights=[regions, numbers("b", 0)])


def _regions_of_input() -> ModelProto:
    made = _regions(0, 0, 0, 1, 1)
    del made.graph.initializer[0]
    made.graph.input.append(value("r", [1, 4]))
    return made


def _channels() -> ModelProto:
    nodes = [
        node("Unsqueeze", ["x", "axes"], "four"),
        node("LRN", ["four"], size=1_000_000_001),
    ]
    return model(nodes, weights=[numbers("axes", 1, 2)])


def _spectrum(operator: str, points: int) -> ModelProto:
    """Points a little above a power of two, for which a transform is done at four times as many."""
    weights = [numbers("n", points, shape=()), numbers("s", 1, shape=())]
    inputs = {"DFT": ["x", "n"], "STFT": ["x", "s", "", "n"]}[operator]
    size = 16 if operator == "DFT" else points
    return model([node(operator, inputs, onesided=1)], inputs=[value("x", [1, size, 1])], weights=weights)


def _blank() -> ModelProto:
    return model([node("Max", ["x", ""])])


def _blank_part() -> ModelProto:
    return model([node("Split", ["x"], "", "y", axis=1, num_outputs=2)])


def _without_axis() -> ModelProto:
    """An input that may be left out, and is named, but by nothing."""
    return model([node("DFT", ["x", "", ""])], inputs=[value("x", [1, 16, 1])])


def _without_shift() -> ModelProto:
    scale = numpy_helper.from_array(np.ones(4, np.float32), "s")
    return model([node("LayerNormalization", ["x", "s", ""])], weights=[scale])


def _without_mean() -> ModelProto:
    trained = node("BatchNormalization", ["x", "s", "s", "s", "s"], "y", "", "v", training_mode=1)
    return model([trained], weights=[numpy_helper.from_array(np.ones(4, np.float32), "s")])


def _without_heads() -> ModelProto:
    kept = node("Attention", ["x", "x", "x"], q_num_heads=0, kv_num_heads=1)
    return model([kept], inputs=[value("x", [1, 4, 8])], opset=23)


def _nothing_to_normalise() -> ModelProto:
    nothing = numpy_helper.from_array(np.zeros((1, 2, 0, 3), np.float32), "x")
    ones = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("s", "b")]
    return model([node("InstanceNormalization", ["x", "s", "b"])], inputs=[], weights=[nothing, *ones])


def _of_microsoft(operator: str, inputs: list[str], values: list[object], **more: object) -> ModelProto:
    return model([node(operator, inputs, domain="com.microsoft", **more)], inputs=values, domains=["com.microsoft"])


def _without_bias() -> ModelProto:
    values = [value("x", [2, 4, 8]), value("w", [8, 24])]
    return _of_microsoft("Attention", ["x", "w", "", ""], values, num_heads=2)


def _scale_of_a_caller() -> ModelProto:
    """Scales and zero points that are handed in, where the kernel looks for them in the file."""
    names = ["c", "a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    scales = [value(name, [], TensorProto.FLOAT if name.endswith("s") else TensorProto.UINT8) for name in names[2:]]
    scales = [each for each in scales if each.name != "b"]
    tensors = [
        value("c", [2], TensorProto.BOOL),
        value("a", [2], TensorProto.UINT8),
        value("b", [2], TensorProto.UINT8),
    ]
    return _of_microsoft("QLinearWhere", names, [*tensors, *scales])


def _without_zero_point() -> ModelProto:
    scales = [numpy_helper.from_array(np.float32(0.1), name) for name in ("s", "t")]
    made = _of_microsoft("QLinearSigmoid", ["x", "s", "z", "t"], [value("x", [2, 3], TensorProto.UINT8)])
    made.graph.initializer.extend([*scales, numpy_helper.from_array(np.uint8(0), "z")])
    return made


def _large_window() -> ModelProto:
    scales = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(0), "z")]
    more = {"kernel_shape": [10, 2], "strides": [2, 2], "channels_last": 1}
    pooled = _of_microsoft(
        "QLinearAveragePool", ["x", "s", "z", "s", "z"], [value("x", [1, 8, 8, 3], TensorProto.UINT8)], **more
    )
    pooled.graph.initializer.extend(scales)
    return pooled


def _places_short() -> ModelProto:
    """A pool of two words and one pair, with a place for the first only."""
    counted = node(
        "TfIdfVectorizer",
        ["x"],
        max_gram_length=2,
        max_skip_count=0,
        min_gram_length=1,
        mode="TF",
        ngram_counts=[0, 2],
        ngram_indexes=[0],
        pool_int64s=[1, 2, 1, 2],
    )
    return model([counted], inputs=[value("x", [6], INT64)])


def _columns_below_zero() -> ModelProto:
    joined = node("FeatureVectorizer", ["x", "x"], domain="ai.onnx.ml", inputdimensions=[4, -1])
    return model([joined], domains=["ai.onnx.ml"])


KERNELS = (
    case("blank-in-list", _blank, UNSAFE, "https://cwe.mitre.org/data/definitions/476.html"),
    case("blank-in-list-of-outputs", _blank_part, UNSAFE, "https://cwe.mitre.org/data/definitions/476.html"),
    case("kernel-without-axis", _without_axis, UNKNOWN, "https://cwe.mitre.org/data/definitions/476.html"),
    case("kernel-without-shift", _without_shift, UNKNOWN, "https://cwe.mitre.org/data/definitions/476.html"),
    case("kernel-without-mean", _without_mean, UNKNOWN, "https://cwe.mitre.org/data/definitions/476.html"),
    case("kernel-without-heads", _without_heads, UNKNOWN, "https://cwe.mitre.org/data/definitions/369.html"),
    case("kernel-without-bias", _without_bias, UNKNOWN, "https://cwe.mitre.org/data/definitions/476.html"),
    case("kernel-of-nothing", _nothing_to_normalise, UNKNOWN, "https://cwe.mitre.org/data/definitions/125.html"),
    case("kernel-scale-of-caller", _scale_of_a_caller, UNKNOWN, "https://cwe.mitre.org/data/definitions/476.html"),
    case("kernel-without-zero-point", _without_zero_point, UNKNOWN, "https://cwe.mitre.org/data/definitions/476.html"),
    case("kernel-large-window", _large_window, UNKNOWN, "https://cwe.mitre.org/data/definitions/369.html"),
    case("kernel-places-short", _places_short, UNKNOWN, "https://cwe.mitre.org/data/definitions/787.html"),
    case("kernel-columns-below-zero", _columns_below_zero, UNKNOWN, "https://cwe.mitre.org/data/definitions/787.html"),
    case("least-divided-int64", _divided("Div", INT64, LEAST), UNSAFE, OVERFLOW),
    case("least-divided-int32", _divided("Div", TensorProto.INT32, -(1 << 31)), UNSAFE, OVERFLOW),
    case("least-divided-remainder", _divided("Mod", INT64, LEAST), UNSAFE, OVERFLOW),
    case("least-divided-of-filled", _large_division, UNSAFE, OVERFLOW),
    case("least-divided-of-many", _unkept_division, UNKNOWN, OVERFLOW),
    case(
        "division-by-filled-zero", _division_by_filled_zero, UNSAFE, "https://cwe.mitre.org/data/definitions/369.html"
    ),
    case("bomb-room-for-channels", _channels, UNSAFE, MEMORY),
    case("bomb-samples-of-regions", _regions(100_000, 0, 0, 4, 4), UNSAFE, MEMORY),
    case("bomb-samples-of-large-regions", _regions(0, 0, 0, 1e6, 1e6), UNSAFE, MEMORY),
    case("bomb-samples-of-scaled-regions", _regions(0, 0, 0, 4, 4, spatial_scale=1e6), UNSAFE, MEMORY),
    case("bomb-samples-by-input", _regions_of_input, UNKNOWN, MEMORY),
    case("bomb-room-of-spectrum", _spectrum("DFT", (1 << 25) + 1), UNSAFE, MEMORY),
    case("bomb-room-of-frames", _spectrum("STFT", (1 << 25) + 1), UNSAFE, MEMORY),
)
