"""Other libraries' passes: what they make of a graph holds, and what goes wrong with them is named."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from onnx import parser

from hauberk.artifact import OnnxArtifact
from hauberk.errors import ContractError, LimitError, MissingExtraError
from hauberk.graph.harness import GraphVerifier
from hauberk.graph.model import parse, signature_of
from hauberk.graph.passes.onnx_runtime_offline import OnnxRuntimeOffline
from hauberk.graph.passes.onnxsim import Onnxsim
from hauberk.graph.passes.onnxslim import Onnxslim
from hauberk.recipe import Context, Recipe, Step

NOTHING = np.zeros(0, np.float32)
CONTEXT = Context(calibration=NOTHING, bounds=(NOTHING, NOTHING))
HEADER = '<ir_version: 10, opset_import: ["" : 20]> g '
GRAPH = (
    "(float[n,4] x) => (float[n,4] y) <float[4] b = {1, 2, 3, 4}> {"
    " i = Identity(x) c = Constant<value = float[1] {2}>() d = Mul(b, c) e = Add(i, d) y = Relu(e) }"
)


def graph(text: str = GRAPH) -> OnnxArtifact:
    model = parser.parse_model(HEADER + text).SerializeToString()
    return OnnxArtifact(model, signature_of(parse(model)), "0" * 64)


@pytest.mark.parametrize("step", [Onnxslim(), Onnxsim(), OnnxRuntimeOffline()])
def test_what_they_fold_holds(step):
    result = Recipe("r", (step,)).apply(graph(), CONTEXT, GraphVerifier())
    (record,) = result.history
    assert record.kept, record.verdict.reason
    computed = [node.op_type for node in parse(result.model).graph.node if node.op_type != "Constant"]
    assert computed == ["Add", "Relu"]


@pytest.mark.parametrize("step", [Onnxslim(), Onnxsim(), OnnxRuntimeOffline()])
def test_they_can_be_repeated_from_json(step):
    recipe = Recipe("r", (step,))
    kinds: tuple[type[Step], ...] = (Onnxslim, Onnxsim, OnnxRuntimeOffline)
    assert Recipe.from_json(recipe.to_json(), kinds) == recipe


def test_a_library_that_fails_is_named_with_what_it_said():
    broken = parser.parse_model(HEADER + "(float[n,4] x) => (float[n,4] y) { y = NoSuchOperator(x) }")
    before = OnnxArtifact(broken.SerializeToString(), signature_of(broken), "0" * 64)
    with pytest.raises(ContractError, match=r"onnxruntime-offline: onnxruntime fails on this graph: .*NoSuchOperator"):
        OnnxRuntimeOffline().apply(before, CONTEXT)


def test_a_library_that_takes_too_long_is_stopped():
    with pytest.raises(LimitError, match=r"onnxslim: onnxslim was stopped after 0\.01 s"):
        Onnxslim(time_limit=0.01).apply(graph(), CONTEXT)


def test_a_package_that_is_missing_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxsim", None)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(MissingExtraError, match=r"onnxsim is not installed: pip install 'hauberk\[optimizers\]'"):
        Onnxsim().apply(graph(), CONTEXT)


def test_onnx_runtime_s_file_declares_only_domains_that_it_uses():
    after = OnnxRuntimeOffline(level="basic").rewritten(graph().model)
    assert [entry.domain for entry in onnx.load_from_string(after).opset_import] == [""]
