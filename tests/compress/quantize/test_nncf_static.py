"""NNCF as a candidate: what it returns fits, it sends nothing, and its absence is said clearly."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import onnx
import pytest

from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize import nncf_static
from hauberk.compress.quantize.nncf_static import QuantizeNncf
from hauberk.errors import InputError, MissingExtraError

needs_nncf = pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="the extra nncf is not installed")

# Run apart from pytest, in whose presence NNCF switches its reports off by itself; once after NNCF, once before it.
SILENT = """
import os, sys
from hauberk.compress.quantize import nncf_static
if os.fork() == 0:
    import nncf
else:
    os.wait()
nncf_static.library()
from nncf.telemetry.wrapper import NNCFTelemetry, telemetry
real = isinstance(telemetry, NNCFTelemetry)
print(type(telemetry._impl).__name__ if real else "stand-in", "openvino_telemetry" in sys.modules, flush=True)
"""


@needs_nncf
def test_a_quantized_core_comes_back(networks, calibrated, records, fused, relative_error):
    core = networks["windows"]()
    result = QuantizeNncf().apply(core, calibrated(core))
    assert result.signature == core.signature
    assert fused(result).count("QLinearConv") == 2
    assert relative_error(core, result, records(core, seed=2)) < 0.2


def coded(artifact):
    """Layers and products of which both factors come from codes, if only behind moves."""
    graph = onnx.load_model_from_string(artifact.model).graph
    makers = {name: node for node in graph.node for name in node.output}

    def decodes(name):
        node = makers.get(name)
        moved = node is not None and node.op_type in ("Flatten", "Reshape", "Squeeze", "Transpose")
        return decodes(node.input[0]) if moved else node is not None and node.op_type == "DequantizeLinear"

    return {name for node in graph.node if all(map(decodes, node.input[:2])) for name in node.output}


@needs_nncf
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_recurrent_layers_stay_in_float_and_are_named(kind, builder, calibrated):
    b = builder()
    windows = b.node("Relu", b.linear("features", 6, 16))
    b.gemm(b.recurrent(kind, windows, 16, 8), 8, 3, name="logits")
    core, step = b.artifact((10, 6), 3), QuantizeNncf(records=20)
    layer = next(node for node in b.nodes if node.op_type == kind).output[1]
    assert step.notes(core) == (f"{kind} {layer!r} stays in float: NNCF codes no recurrent layers",)
    model = onnx.load_model_from_string(step.apply(core, calibrated(core)).model)
    kept = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    (node,) = (node for node in model.graph.node if node.op_type == kind)
    assert set(node.input[1:3]) <= kept


@needs_nncf
@pytest.mark.parametrize("transformer", [False, True])
def test_what_stays_in_float_of_a_transformer_is_named(transformer, networks, calibrated):
    core, step = networks["transformer"](), QuantizeNncf(records=20, transformer=transformer)
    result = coded(step.apply(core, calibrated(core)))
    left = [
        node
        for node in onnx.load_model_from_string(core.model).graph.node
        if node.op_type in ("Gemm", "MatMul") and node.output[0] not in result
    ]
    reason = "NNCF codes no weights of attention in a Transformer"
    assert step.notes(core) == tuple(f"MatMul {node.output[0]!r} stays in float: {reason}" for node in left)
    assert len(left) == transformer


@needs_nncf
def test_a_quantized_graph_is_refused(networks, calibrated):
    core = networks["mlp"]()
    context = calibrated(core)
    with pytest.raises(InputError, match="already quantized"):
        QuantizeNncf().apply(QuantizeStatic().apply(core, context), context)


@needs_nncf
def test_nothing_is_printed(networks, calibrated, capfd):
    core = networks["windows"]()
    QuantizeNncf(records=20).apply(core, calibrated(core))
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@needs_nncf
@pytest.mark.skipif(not hasattr(os, "fork"), reason="one process for each case is made by fork")
def test_nothing_is_sent(tmp_path):
    environment = {"PATH": "", "HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", SILENT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["_Silence True", "stand-in False"]


def test_without_it_the_extra_is_named(networks, calibrated, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    core = networks["mlp"]()
    with pytest.raises(MissingExtraError, match=r"pip install 'hauberk\[nncf\]'"):
        QuantizeNncf().apply(core, calibrated(core))


def test_the_reporter_is_importable_afterwards(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with pytest.raises(MissingExtraError):
        nncf_static.library()
    assert "openvino_telemetry" not in sys.modules


@needs_nncf
def test_a_graph_without_layers_is_refused(builder, calibrated):
    b = builder()
    b.node("Softmax", "features", name="logits")
    core = b.artifact((5,), 5)
    with pytest.raises(InputError, match="nothing to quantize"):
        QuantizeNncf().apply(core, calibrated(core))
