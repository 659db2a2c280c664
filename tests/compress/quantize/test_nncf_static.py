"""NNCF as a candidate: what it returns fits, it sends nothing, and its absence is said clearly."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

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
