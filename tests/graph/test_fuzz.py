"""A slice of `benchmarks/fuzz_passes.py`: random graphs through every default pass, judged by somebody else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import onnx
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fuzz_passes():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("fuzz_passes")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("first", range(0, 20, 5))
def test_results_are_equal_or_a_pass_is_undone(fuzz_passes, first):
    for seed in range(first, first + 5):
        report = fuzz_passes.fuzz(seed, others=False)
        assert report.silent == []
        assert report.crashed == []
        assert report.kept or report.undone


def test_graphs_that_hypothesis_draws_are_equal_or_a_pass_is_undone(fuzz_passes):
    reports = fuzz_passes.drawn_reports(0, 10, others=False)
    assert len(reports) == 10
    assert not fuzz_passes.failed(reports)
    assert len({report.nodes for report in reports}) > 3


def test_what_fails_is_shrunk(fuzz_passes, monkeypatch):
    """A pass that goes wrong on every graph of three nodes is reported on the smallest such graph that was found."""
    sizes = []

    def fails(proto, seed, **options):
        operators = [node.op_type for node in proto.graph.node]
        if len(operators) >= 3:
            sizes.append(len(operators))
        faults = ["wrong"] if len(operators) >= 3 else []
        return fuzz_passes.Report(seed, silent=faults, nodes=(len(operators), len(operators)))

    monkeypatch.setattr(fuzz_passes, "fuzz_graph", fails)
    reports = fuzz_passes.drawn_reports(0, 60, others=False)
    assert [fuzz_passes.failed([report]) for report in reports].count(True) == 1
    assert reports[-1].nodes[0] == min(sizes) < max(sizes)


def test_the_judge_sees_a_difference(fuzz_passes):
    """A graph and the same one with a constant moved: the judge must not need the harness to see it."""
    before = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[n,3] x) => (float[n,3] y) <float c = {1}> { y = Add(x, c) }'
    )
    after = onnx.ModelProto()
    after.CopyFrom(before)
    after.graph.initializer[0].float_data[0] = 1.01
    found = fuzz_passes.judge(before.SerializeToString(), after.SerializeToString(), 0, ["wrong"])
    assert found
    assert "after wrong" in found[0]
    assert fuzz_passes.judge(before.SerializeToString(), before.SerializeToString(), 0, ["none"]) == []


def test_the_same_seed_is_the_same_graph(fuzz_passes):
    graphs = [fuzz_passes.random_graph(seed).SerializeToString() for seed in (3, 3, 4)]
    assert graphs[0] == graphs[1] != graphs[2]


@pytest.mark.parametrize(
    ("happened", "fails"),
    [
        ({}, False),
        ({"undone": [("fuse-linear", "output 'y' went from 1 to 2")]}, False),
        ({"crashed": [("fuse-linear", "StopIteration: ")]}, True),
        ({"silent": ["output 0 was 1 and is 2"]}, True),
    ],
    ids=["nothing", "undone", "crashed", "silent"],
)
def test_a_crash_fails_the_run_as_a_silent_difference_does(fuzz_passes, happened, fails):
    assert fuzz_passes.failed([fuzz_passes.Report(0), fuzz_passes.Report(1, **happened)]) == fails


def test_the_judge_tries_integers_that_narrower_types_do_not_hold(fuzz_passes):
    head = '<ir_version: 10, opset_import: ["" : 20]> g (int64[n] i) => (int64[n] y)'
    plain, narrowed = (
        onnx.parser.parse_model(f"{head} {{ {body} }}").SerializeToString()
        for body in ("y = Neg(i)", "a = Cast<to = 6>(i) b = Cast<to = 7>(a) y = Neg(b)")
    )
    assert fuzz_passes.judge(plain, narrowed, 0, ["wrong"])


def test_a_peak_of_memory_above_its_limit_is_complained_of():
    """The limit of `benchmarks/large_model.py`, which itself needs gigabytes."""
    spec = importlib.util.spec_from_file_location("large_model", BENCHMARKS / "large_model.py")
    large_model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(large_model)
    assert large_model.too_much(1500, 1000) == ""
    assert large_model.too_much(1501, 1000) == "more than 1.5 times the weights"
