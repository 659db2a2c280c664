"""Static INT8 beside ONNX Runtime's own quantizer, as its documentation shows it, on the same records."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from hauberk.compress import QuantizeStatic
from hauberk.graph.model import run, session


class Reader(CalibrationDataReader):
    """Hands out records one by one."""

    def __init__(self, records):
        self._records = iter(records)

    def get_next(self):
        record = next(self._records, None)
        return None if record is None else {"features": record[None]}


@pytest.fixture
def theirs(tmp_path):
    """ONNX Runtime's result for a core and calibration records."""

    def quantize(core, records, **options):
        model = onnx.load_model_from_string(core.model)
        onnx.helper.set_model_props(model, {"onnx.infer": "onnxruntime.quant"})
        path = tmp_path / "theirs.onnx"
        quantize_static(model, path, Reader(records), quant_format=QuantFormat.QDQ, **options)
        return replace(core, model=path.read_bytes())

    return quantize


@pytest.mark.parametrize("name", ["mlp", "plain", "windows", "residual", "depthwise", "concatenating", "transformer"])
def test_logits_are_at_least_as_close_to_float(name, networks, calibrated, records, theirs, relative_error):
    """Against its defaults with a scale a channel, U8S8, the setting that its documentation advises."""
    core = networks[name]()
    context, features = calibrated(core), records(core, seed=2)
    options = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    peer = theirs(core, context.calibration, **options)
    ours = QuantizeStatic(reduced_range=False).apply(core, context)
    assert relative_error(core, ours, features) <= relative_error(core, peer, features)


@pytest.mark.parametrize("name", ["mlp", "residual", "transformer"])
def test_decisions_agree_at_least_as_often(name, networks, calibrated, records, theirs):
    core = networks[name]()
    context, features = calibrated(core), records(core, count=1000, seed=3)
    before = run(session(core.model), {"features": features})[0].argmax(axis=1)
    peer, ours = theirs(core, context.calibration), QuantizeStatic(reduced_range=False).apply(core, context)
    agreement = [
        (run(session(each.model), {"features": features})[0].argmax(axis=1) == before).mean() for each in (peer, ours)
    ]
    assert agreement[1] >= agreement[0]


def test_ranges_are_those_of_its_min_max_calibrator(networks, calibrated, theirs):
    """The input's scale and zero point, computed by both from the same records."""
    core = networks["mlp"]()
    context = calibrated(core)
    found = []
    for result in (theirs(core, context.calibration), QuantizeStatic().apply(core, context)):
        graph = onnx.load_model_from_string(result.model).graph
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        quantizer = next(node for node in graph.node if node.input[:1] == ["features"])
        found.append([constants[name].astype(float).item() for name in quantizer.input[1:]])
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert found[1][1] - found[0][1] in (0, 128)  # its default is int8
