"""Size, load time and memory of real graphs in real processes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.errors import InputError
from hauberk.evaluate.footprint import measure_footprint, size_measurement

MEBIBYTE = 1 << 20


def graph(columns: int, hidden: int) -> bytes:
    """A MatMul with `4 * columns * hidden` bytes of weights."""
    weight = numpy_helper.from_array(np.ones((columns, hidden), np.float32), "weight")
    body = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weight"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", columns])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", hidden])],
        [weight],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def footprint():
    return measure_footprint({"small": graph(8, 8), "large": graph(2048, 4096)}, baseline="small", runs=6)


def test_memory_holds_at_least_the_weights(footprint):
    memory = footprint["large"]["memory.peak"]
    assert memory.value > 32 * MEBIBYTE
    assert memory.difference.value > 32 * MEBIBYTE
    assert footprint["small"]["memory.peak"].value < 32 * MEBIBYTE


def test_more_weights_take_longer_to_load(footprint):
    load = footprint["large"]["load_time"]
    assert load.ratio.value > 1
    assert 0 < load.low <= load.value <= load.high


def test_size_is_exact(footprint):
    size = footprint["large"]["size"]
    assert size.value == len(graph(2048, 4096))
    assert size.low is None
    assert size.ratio.low == size.ratio.high == size.value / len(graph(8, 8))


def test_the_baseline_has_no_ratio(footprint):
    assert all(measurement.ratio is None for measurement in footprint["small"].values())
    assert size_measurement(b"1234").difference is None


def test_a_model_that_does_not_load_is_one_line():
    with pytest.raises(InputError, match=r"broken does not load in a fresh process: .*RefusedModelError"):
        measure_footprint({"broken": b"not a model"}, baseline="broken")


def test_a_model_that_does_not_load_in_time_is_one_line():
    with pytest.raises(InputError, match=r"slow did not load and answer one record within 0\.01 s"):
        measure_footprint({"slow": graph(8, 8)}, baseline="slow", seconds=0.01)


def test_too_few_runs_for_an_interval_are_refused():
    with pytest.raises(InputError, match="at least 6 runs"):
        measure_footprint({"a": graph(8, 8)}, baseline="a", runs=5)


def test_an_unknown_baseline_is_refused():
    with pytest.raises(InputError, match="is not among the models"):
        measure_footprint({"a": graph(8, 8)}, baseline="b")


def test_the_process_imports_what_production_imports():
    workshop = ("torch", "onnx", "sklearn", "polars", "pandas")
    code = f"import sys, hauberk.evaluate.load_probe; print([m for m in {workshop} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
