"""Every operator in a small graph: exact where the graph is affine, never beaten by ONNX Runtime elsewhere."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.evaluate.robustness.certify.certificate import METHODS, certify
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

from .conftest import box, build, node, session

every_method = pytest.mark.parametrize("method", METHODS)
RANDOM = np.random.default_rng(7)
RECORDS = 12


def values(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def integers(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


Graph = tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[int, ...]]

# Nodes from "features" to "y", constants, the shape of a record.
AFFINE: dict[str, Graph] = {
    "Add": ([node("Add", ["features", "c"], "y")], {"c": values(6)}, (6,)),
    "Add of two paths": (
        [node("MatMul", ["features", "w"], "h"), node("Add", ["h", "features"], "y")],
        {"w": values(6, 6)},
        (6,),
    ),
    "AveragePool": ([node("AveragePool", ["features"], "y", kernel_shape=[2, 2], strides=[2, 2])], {}, (2, 4, 6)),
    "AveragePool padded": (
        [node("AveragePool", ["features"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        {},
        (2, 4, 4),
    ),
    "BatchNormalization": (
        [node("BatchNormalization", ["features", "s", "b", "m", "v"], "y")],
        {"s": values(2), "b": values(2), "m": values(2), "v": np.abs(values(2)) + 0.1},
        (2, 3, 3),
    ),
    "Concat": (
        [node("Neg", ["features"], "n"), node("Concat", ["n", "features"], "y", axis=1)],
        {},
        (4,),
    ),
    "Conv": (
        [node("Conv", ["features", "w", "b"], "y", pads=[1, 1, 1, 1])],
        {"w": values(3, 2, 3, 3), "b": values(3)},
        (2, 4, 4),
    ),
    "Conv in groups with strides": (
        [node("Conv", ["features", "w"], "y", group=2, strides=[2, 2], auto_pad="SAME_UPPER")],
        {"w": values(4, 1, 3, 3)},
        (2, 5, 5),
    ),
    "Conv over one axis": ([node("Conv", ["features", "w"], "y", dilations=[2])], {"w": values(3, 2, 3)}, (2, 9)),
    "ConvTranspose": ([node("ConvTranspose", ["features", "w"], "y", strides=[2])], {"w": values(2, 3, 2)}, (2, 4)),
    "Div": ([node("Div", ["features", "c"], "y")], {"c": values(6)}, (6,)),
    "Gather": ([node("Gather", ["features", "i"], "y", axis=1)], {"i": integers(3, 0, 0, -1)}, (5,)),
    "Gemm": (
        [node("Gemm", ["features", "w", "b"], "y", alpha=0.5, beta=-2.0)],
        {"w": values(6, 4), "b": values(4)},
        (6,),
    ),
    "Gemm transposed": ([node("Gemm", ["features", "w"], "y", transB=1)], {"w": values(4, 6)}, (6,)),
    "GlobalAveragePool": ([node("GlobalAveragePool", ["features"], "y")], {}, (3, 4, 4)),
    "MatMul of windows": ([node("MatMul", ["features", "w"], "y")], {"w": values(3, 2)}, (4, 3)),
    "MatMul from the left": ([node("MatMul", ["w", "features"], "y")], {"w": values(5, 4)}, (4, 3)),
    "Mean": ([node("Mean", ["features", "c"], "y")], {"c": values(6)}, (6,)),
    "Mul": ([node("Mul", ["c", "features"], "y")], {"c": values(6)}, (6,)),
    "Pad": (
        [node("Pad", ["features", "p", "v"], "y")],
        {"p": integers(0, 1, 0, 2), "v": np.array(0.5, np.float32)},
        (4,),
    ),
    "ReduceMean": ([node("ReduceMean", ["features", "a"], "y", keepdims=0)], {"a": integers(2)}, (3, 4)),
    "ReduceSum": ([node("ReduceSum", ["features", "a"], "y")], {"a": integers(1)}, (3, 4)),
    "Reshape by a computed shape": (
        [
            node("Shape", ["features"], "s"),
            node("Gather", ["s", "zero"], "n"),
            node("Concat", ["n", "rest"], "t", axis=0),
            node("Reshape", ["features", "t"], "y"),
        ],
        {"zero": integers(0), "rest": integers(6)},
        (2, 3),
    ),
    "Slice": (
        [node("Slice", ["features", "b", "e", "a", "s"], "y")],
        {"b": integers(5), "e": integers(0), "a": integers(1), "s": integers(-2)},
        (6,),
    ),
    "Split": (
        [
            onnx.helper.make_node("Split", ["features", "s"], ["first", "second"], name="split", axis=1),
            node("Sub", ["second", "first"], "y"),
        ],
        {"s": integers(3, 3)},
        (6,),
    ),
    "Squeeze and Unsqueeze": (
        [node("Unsqueeze", ["features", "a"], "u"), node("Squeeze", ["u", "a"], "y")],
        {"a": integers(1)},
        (6,),
    ),
    "Sub": ([node("Sub", ["c", "features"], "y")], {"c": values(6)}, (6,)),
    "Sum": ([node("Sum", ["features", "c", "features"], "y")], {"c": values(6)}, (6,)),
    "Transpose": ([node("Transpose", ["features"], "y", perm=[0, 2, 1])], {}, (3, 4)),
}

BENT: dict[str, Graph] = {
    "GlobalMaxPool": ([node("GlobalMaxPool", ["features"], "y")], {}, (3, 3, 3)),
    "MaxPool": ([node("MaxPool", ["features"], "y", kernel_shape=[2, 2], strides=[2, 2])], {}, (2, 4, 4)),
    "MaxPool padded": (
        [node("MaxPool", ["features"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])],
        {},
        (2, 5, 5),
    ),
    "MaxPool dilated": ([node("MaxPool", ["features"], "y", kernel_shape=[3], dilations=[2])], {}, (2, 9)),
    "ReduceMax": ([node("ReduceMax", ["features", "a"], "y", keepdims=0)], {"a": integers(1)}, (3, 4)),
    "MaxPool behind a convolution": (
        [
            node("Conv", ["features", "w", "b"], "c"),
            node("Relu", ["c"], "r"),
            node("MaxPool", ["r"], "y", kernel_shape=[2, 2], strides=[2, 2]),
        ],
        {"w": values(4, 2, 3, 3), "b": values(4)},
        (2, 6, 6),
    ),
    "a residual block": (
        [
            node("Conv", ["features", "w", "b"], "c", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], "r"),
            node("Conv", ["r", "v"], "d", pads=[1, 1, 1, 1]),
            node("Add", ["d", "features"], "s"),
            node("HardSwish", ["s"], "y"),
        ],
        {"w": values(3, 2, 3, 3), "b": values(3), "v": values(2, 3, 3, 3)},
        (2, 4, 4),
    ),
    "a curve on the input": ([node("Sigmoid", ["features"], "y")], {}, (6,)),
    "a curve of either order": ([node("Max", ["c", "features"], "y")], {"c": np.array(0.4, np.float32)}, (6,)),
    "PRelu by channel": (
        [node("Conv", ["features", "w"], "c"), node("PRelu", ["c", "s"], "y")],
        {"w": values(3, 2, 2, 2), "s": values(3, 1, 1)},
        (2, 3, 3),
    ),
}


def graph(case: Graph) -> OnnxArtifact:
    """The nodes, flattened and weighed into two logits."""
    nodes, constants, shape = case
    width = int(np.prod(_shape_of_y(case)))
    head = np.random.default_rng(3).normal(size=(width, 2)).astype(np.float32)
    ends = [node("Flatten", ["y"], "flat"), node("MatMul", ["flat", "head"], "logits")]
    return build([*nodes, *ends], {**constants, "head": head}, shape)


def _shape_of_y(case: Graph) -> tuple[int, ...]:
    nodes, constants, shape = case
    model = onnx.load_model_from_string(build(nodes, constants, shape).model)
    model.graph.output[0].name = "y"
    return ReferenceEvaluator(model).run(None, {"features": np.zeros((2, *shape), np.float32)})[0].shape[1:]


def records(case: Graph) -> LabelledFeatures:
    width = int(np.prod(case[2]))
    generator = np.random.default_rng(11)
    return LabelledFeatures(generator.random((RECORDS, width), dtype=np.float32), generator.integers(0, 2, RECORDS))


@every_method
@pytest.mark.parametrize("name", AFFINE)
def test_an_affine_graph_has_its_exact_bound(method, name):
    """Its Jacobian is read off ONNX Runtime; each column goes to the end that lowers the headroom."""
    case, core = AFFINE[name], graph(AFFINE[name])
    given, answer = records(case), session(core)
    width = given.features.shape[1]
    at_zero = Decision().margin(answer(np.zeros((1, width), np.float32)))[0].astype(np.float64)
    slope = Decision().margin(answer(np.eye(width, dtype=np.float32))).astype(np.float64) - at_zero
    threat, side = box(0.2, width), np.where(given.targets == 1, 1.0, -1.0)
    low, high = threat.limits(given.features)
    worst = np.where(side[:, None] * slope > 0, low, high).astype(np.float64)
    exact = side * (worst @ slope + at_zero)
    found = certify(core, Decision(), given, threat, method).headroom
    assert found == pytest.approx(exact, abs=3e-3)
    assert (found <= exact + 2e-5).all()  # the Jacobian itself is off by as much


@every_method
@pytest.mark.parametrize("name", BENT)
def test_no_answer_of_the_runtime_is_below_the_bound(method, name):
    case, core = BENT[name], graph(BENT[name])
    given, answer = records(case), session(core)
    threat, side = box(0.1, given.features.shape[1]), np.where(given.targets == 1, 1.0, -1.0)
    bound = certify(core, Decision(), given, threat, method).headroom
    low, high = threat.limits(given.features)
    generator = np.random.default_rng(0)
    for attempt in range(60):
        share = generator.random(low.shape, dtype=np.float32)
        points = np.clip(low + (np.round(share) if attempt % 2 else share) * (high - low), low, high)
        assert (side * Decision().margin(answer(points)) >= bound).all()


@pytest.mark.parametrize("name", BENT)
def test_crown_is_nowhere_looser_than_intervals(name):
    case, core = BENT[name], graph(BENT[name])
    threat = box(0.1, int(np.prod(case[2])))
    ibp, crown = (certify(core, Decision(), records(case), threat, method).headroom for method in METHODS)
    assert (crown >= ibp - 1e-9).all()


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        ([node("Softmax", ["features"], "logits")], {}, r"operator Softmax \(node 'logits'\)"),
        ([node("Mul", ["features", "features"], "logits")], {}, r"operator Mul \(node 'logits'\) of more than one"),
        ([node("Div", ["c", "features"], "logits")], {"c": values(2)}, r"operator Div .* in that place"),
        ([node("Gather", ["features", "i"], "logits", axis=0)], {"i": integers(0, 0)}, "mixes records of a batch"),
        ([node("Max", ["features", "c", "d"], "logits")], {"c": values(2), "d": values(2)}, "more than one constant"),
        (
            [
                node("Cast", ["features"], "h", to=TensorProto.FLOAT16),
                node("Cast", ["h"], "logits", to=TensorProto.FLOAT),
            ],
            {},
            r"operator Cast \(node 'h'\)",
        ),
        ([node("Identity", ["c"], "logits")], {"c": values(1, 2)}, "logits .* that depend on the features"),
    ],
)
def test_what_cannot_be_certified_is_named(nodes, constants, message):
    core = build(nodes, constants, [2])
    with pytest.raises(InputError, match=message):
        certify(core, Decision(), LabelledFeatures(values(3, 2), integers(0, 1, 0)), box(0.1, 2))
