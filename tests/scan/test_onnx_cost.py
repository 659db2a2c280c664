"""What a run of an ONNX model takes, as told from the file: shapes, memory, rounds of loops."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import measured_run
import memory_models
import numpy as np
import onnx
import onnxruntime
import pytest
from corpus.graphs_costs import _loop, made_of
from corpus.onnx_models import BOOL, INT64, calling, function, graph, model, node, numbers, value
from onnx import numpy_helper
from onnx.backend.test.case import node as cases

from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination, ScanLimits, StopScan
from hauberk.scan.graphs import operations
from hauberk.scan.graphs.account import Account, StopEstimateError
from hauberk.scan.graphs.cost import ODD_SIZE
from hauberk.scan.graphs.estimator import Estimator
from hauberk.scan.graphs.examine import examine_onnx
from hauberk.scan.graphs.reading import read_model
from hauberk.scan.graphs.structure import check_structure
from hauberk.scan.graphs.values import Tensor, Value

assert operations  # importing them registers their rules


def examined(proto: onnx.ModelProto, **limits: int) -> Examination:
    examination = Examination(ScanLimits(**limits))
    with contextlib.suppress(StopScan):
        examine_onnx(BytesContent(proto.SerializeToString()), examination)
    return examination


def rules(proto: onnx.ModelProto, **limits: int) -> set[str]:
    return {finding.rule for finding in examined(proto, **limits).findings}


def outputs(proto: onnx.ModelProto, *, batch: int = 1, size: int = 64) -> dict[str, Value]:
    """What the estimate knows of the main graph's outputs."""
    read = read_model(BytesContent(proto.SerializeToString()), Examination())
    assert check_structure(read, Examination())
    estimator = Estimator(read, Account(Examination()), batch=batch, size=size)
    found: dict[str, Value] = {}
    follow = estimator.follow

    def noting(nodes, scope, names, setting):
        results = follow(nodes, scope, names, setting)
        if nodes is read.graph.nodes:
            found.update(zip(names, results, strict=True))
        return results

    estimator.follow = noting  # type: ignore[method-assign]
    with contextlib.suppress(StopEstimateError):
        estimator.run()
    return found


# One operator of each kind, so that a fault in a rule shows; all 1,884 cases run outside of CI.
OPERATORS = (
    "ArgMax", "BatchNormalization", "Clip", "Compress", "Concat", "Constant", "Conv", "ConvTranspose", "CumSum",
    "DepthToSpace", "DFT", "Einsum", "Equal", "Flatten", "Gather", "GatherElements", "GatherND", "Gemm",
    "GridSample", "GRU", "Identity", "If", "LayerNormalization", "LSTM", "MatMul", "LpPool", "NonMaxSuppression",
    "NonZero", "ReduceMax", "ReduceSum", "Reshape", "RoiAlign", "Scan", "ScatterND", "Shape", "Size", "Slice",
    "SpaceToDepth", "Split", "StringConcat", "StringSplit", "TfIdfVectorizer", "TopK", "Transpose", "Unique",
    "Unsqueeze", "Where",
)  # fmt: skip


MODULES = {
    "BatchNormalization": "batch_normalization",
    "If": "if_",
    "StringConcat": "string_concat",
    "StringSplit": "string_split",
}
"""Modules of onnx that are not called like their operator."""


def cases_of(operator: str) -> list[Any]:
    """ONNX's own test cases of an operator. Collecting all of them takes longer than they are worth here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"onnx.backend.test.case.node.{MODULES.get(operator, operator.lower())}")
        return [each for each in cases._NodeTestCases if operator in {node.op_type for node in each.model.graph.node}]


@pytest.mark.parametrize("operator", OPERATORS)
def test_shapes_are_those_of_onnx_own_cases(operator):
    """Sizes are never below those that ONNX's test cases record, and equal where they are said to be exact."""
    checked = 0
    for case in cases_of(operator)[:15]:
        if not case.data_sets or any(0 in np.shape(each) for each in case.data_sets[0][0]):
            continue  # a size of 0 counts as one that is left open
        found = outputs(case.model)
        for name, expected in zip([each.name for each in case.model.graph.output], case.data_sets[0][1], strict=False):
            tensor = found.get(name)
            if not isinstance(tensor, Tensor) or not isinstance(expected, np.ndarray) or tensor.count is None:
                continue
            checked += 1
            assert tensor.count >= expected.size, case.name
            if tensor.dims is not None:
                assert len(tensor.dims) == expected.ndim, case.name
                assert all(ours >= real for ours, real in zip(tensor.dims, expected.shape, strict=True)), case.name
            if tensor.exact:
                assert tensor.dims == expected.shape, case.name
            if tensor.values is not None and expected.dtype.kind in "iufb" and expected.size:
                assert np.all(tensor.values.low <= expected + 1e-5), case.name
                assert np.all(tensor.values.high >= expected - 1e-5), case.name
    assert checked, operator


@pytest.mark.parametrize("turned", list(itertools.product((0, 1), repeat=4)))
def test_products_of_transposed_batches_have_the_shape_that_onnx_runtime_gives(turned):
    sides = dict(zip(("transA", "transBatchA", "transB", "transBatchB"), turned, strict=True))
    first, second = _operand(5, 7, *turned[:2]), _operand(7, 6, *turned[2:])
    weights = [numpy_helper.from_array(np.ones(dims, np.float32), name) for name, dims in (("a", first), ("b", second))]
    product = node("FusedMatMul", ["a", "b"], domain="com.microsoft", **sides)
    proto = model([product], inputs=[], outputs=[value("y", None)], weights=weights, domains=["com.microsoft"])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {})
    found = outputs(proto)["y"]
    assert isinstance(found, Tensor)
    assert found.dims == result.shape == (2, 3, 5, 6)


def _operand(rows: int, columns: int, trans: int, batches: int) -> tuple[int, ...]:
    """Dimensions in the file of an operand that is multiplied as 2 x 3 matrices of rows and columns."""
    rows, columns = (columns, rows) if trans else (rows, columns)
    return (rows, 2, 3, columns) if batches else (2, 3, rows, columns)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "small.onnx"
    path.write_bytes(model().SerializeToString())
    return path


@pytest.mark.parametrize("name", memory_models.MODELS)
def test_memory_is_within_a_factor_of_what_onnx_runtime_takes(name, small, tmp_path):
    """Peak of loading and one run in a process of its own: between 0.5 and 2.5 times of it is estimated."""
    proto = memory_models.MODELS[name]()
    estimated = examined(proto).facts["peak_memory_bytes"]
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    command = [sys.executable, measured_run.__file__, str(small), str(path)]
    real = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])
    assert 0.5 * real <= estimated <= 2.5 * real, f"{estimated} estimated, {real} taken"


def test_facts_are_for_the_stated_batch():
    proto = model([node("MatMul", ["x", "w"])], weights=[numpy_helper.from_array(np.ones((4, 8), np.float32), "w")])
    one, many = examined(proto), examined(proto, batch=100)
    assert one.facts["batch"] == 1
    assert many.facts["peak_memory_bytes"] - 128 == 100 * (one.facts["peak_memory_bytes"] - 128) == 100 * (16 + 32)
    assert one.facts["operations"] == 4 * 8 + 1000
    assert many.facts["operations"] == 100 * 4 * 8 + 1000


def test_limits_are_those_that_are_given():
    proto = made_of("Tile", ["x", "n"], numbers("n", 1, 1000))
    assert not rules(proto)
    assert rules(proto, model_memory=10_000) == {"onnx-memory-bomb"}
    assert rules(proto, model_operations=2000) == {"onnx-operation-bomb"}


def test_a_value_is_freed_with_its_last_use():
    """A chain of a hundred takes two values at a time, a hundred that are joined at the end all of them."""
    chain = [node("Exp", ["x" if index == 0 else f"v{index - 1}"], f"v{index}") for index in range(100)]
    fan = [node("Exp", ["x"], f"v{index}") for index in range(100)]
    last = [node("Concat", [f"v{index}" for index in range(100)], axis=0)]
    alone = examined(model([*chain, node("Identity", ["v99"])], inputs=[value("x", [1000])]))
    together = examined(model([*fan, *last], inputs=[value("x", [1000])]))
    assert alone.facts["peak_memory_bytes"] == 2 * 4000
    assert together.facts["peak_memory_bytes"] == 200 * 4000


def test_another_shape_of_a_value_takes_no_memory_but_keeps_it():
    nodes = [
        node("Exp", ["x"], "a"),
        node("Reshape", ["a", "s"], "b"),
        node("Exp", ["x"], "c"),
        node("Add", ["b", "c"]),
    ]
    proto = model(nodes, inputs=[value("x", [1000])], weights=[numbers("s", 1000)])
    assert examined(proto).facts["peak_memory_bytes"] == 8 + 3 * 4000


def test_a_loop_costs_its_rounds():
    once = examined(_loop([node("Identity", ["c"], "d")], "d", ["n", ""], [numbers("n", 1, shape=())]))
    often = examined(_loop([node("Identity", ["c"], "d")], "d", ["n", ""], [numbers("n", 1000, shape=())]))
    assert not often.findings
    body = once.facts["operations"] - 2 * 1000 - 2 * 4
    assert abs(often.facts["operations"] - once.facts["operations"] - 999 * body) < 2000


@pytest.mark.parametrize(
    ("rounds", "rule"), [(10, None), (300, None), (10_000, "onnx-unbounded-loop"), (10**7, "onnx-memory-bomb")]
)
def test_a_loop_that_grows_by_the_same_each_round_is_followed_to_its_end(rounds, rule):
    body = [node("Identity", ["c"], "d"), node("Concat", ["a_in", "x"], "a_out", axis=0)]
    proto = _loop(body, "d", ["n", ""], [numbers("n", rounds, shape=())], ("a",))
    proto.graph.node.insert(0, node("Relu", ["x"], "a"))
    examination = examined(proto)
    found = {finding.rule for finding in examination.findings}
    assert found <= {rule, "onnx-operation-bomb"} if rule else not found
    if not rule:
        assert outputs(proto)["y"].dims == (rounds + 1, 4)


def test_a_loop_that_counts_for_itself_ends_where_it_says():
    body = [node("Less", ["i", "limit"], "d"), node("Concat", ["a_in", "x"], "a_out", axis=0)]
    proto = _loop(body, "d", ["", ""], [numbers("limit", 9, shape=())], ("a",))
    proto.graph.node.insert(0, node("Relu", ["x"], "a"))
    assert not rules(proto)
    assert outputs(proto)["y"].dims == (11, 4)


def test_a_condition_of_the_file_decides_which_branch_runs():
    huge = graph([node("ConstantOfShape", ["n"], "z")], outputs=[value("z", None)])
    calm = graph([node("Relu", ["x"], "z2")], outputs=[value("z2", None)])
    weights = [numbers("n", 1 << 40), numpy_helper.from_array(np.array(True), "c")]
    proto = model([node("If", ["c"], then_branch=calm, else_branch=huge)], weights=weights)
    assert not rules(proto)
    proto.graph.input.append(value("c", [], BOOL))  # a default, which a caller may replace
    assert rules(proto) == {"onnx-memory-bomb"}


def test_what_data_may_make_too_large_is_unknown_not_unsafe():
    """Places that are not zero: all of a million squared may be, or none."""
    nodes = [
        node("NonZero", ["x"], "p"),
        node("Transpose", ["p"], "t"),
        node("Cast", ["p"], "a", to=1),
        node("Cast", ["t"], "b", to=1),
        node("MatMul", ["b", "a"]),
    ]
    assert rules(model(nodes, inputs=[value("x", [1 << 20])])) == {"onnx-unbounded-size"}


@pytest.mark.parametrize(
    ("nodes", "weights", "bounded"),
    [
        ([node("Min", ["n", "most"], "m")], [numbers("most", 100)], True),
        (
            [node("Clip", ["n", "zero", "top"], "m")],
            [numbers("zero", 0, shape=()), numbers("top", 100, shape=())],
            True,
        ),
        ([node("Mod", ["n", "most"], "m")], [numbers("most", 100)], True),
        ([node("Cast", ["n"], "b", to=2), node("Cast", ["b"], "m", to=7)], [], True),
        ([node("Max", ["n", "most"], "m")], [numbers("most", 100)], False),
        ([node("Abs", ["n"], "m")], [], False),
        ([node("Sub", ["n", "most"], "m")], [numbers("most", 100)], False),
        ([node("ReduceSum", ["n"], "m")], [], False),
    ],
)
def test_values_that_are_bounded_bound_sizes(nodes, weights, bounded):
    proto = model([*nodes, node("ConstantOfShape", ["m"])], inputs=[value("n", [1], INT64)], weights=weights)
    assert rules(proto) == (set() if bounded else {"onnx-unbounded-size"})


def test_sizes_that_contradict_each_other_are_told():
    proto = model([node("Add", ["x", "w"])], weights=[numpy_helper.from_array(np.ones(5, np.float32), "w")])
    assert rules(proto) == {"onnx-cost-unknown"}
    assert "contradict" in examined(proto).findings[0].what


def test_an_export_that_holds_on_to_its_example_is_followed_for_that_size():
    proto = model(
        [node("Reshape", ["x", "s"], "r"), node("MatMul", ["r", "w"])],
        inputs=[value("x", ["batch", "columns"])],
        weights=[numbers("s", -1, 7), numpy_helper.from_array(np.ones((7, 3), np.float32), "w")],
    )
    assert not rules(proto)
    assert 7 not in {256, 512, 64, ODD_SIZE}


def test_functions_are_followed_with_the_attributes_of_their_call():
    body = function("F", [node("Relu", ["x"], "h"), node("ReduceSum", ["h"], keepdims=1)])
    assert outputs(calling(body))["y"].dims == (1, 1)
    assert examined(calling(body)).facts["functions"] == 1


def test_an_operator_without_a_rule_is_unknown():
    proto = model([node("BeamSearch", ["x"], domain="com.microsoft")], domains=["com.microsoft"])
    assert rules(proto) == {"onnx-cost-unknown"}
