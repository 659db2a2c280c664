"""What is read from a model without `onnx` is what `onnx` says."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from hauberk.bundle.needs import needs_of
from hauberk.errors import InputError


def model(ir_version: int, opsets: dict[str, int]) -> bytes:
    graph = helper.make_graph([], "g" * 300, [], [])
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, doc_string="x").SerializeToString()


@given(
    st.integers(1, 400),
    st.dictionaries(st.sampled_from(["", "ai.onnx.ml", "com.microsoft"]), st.integers(1, 300), min_size=1),
)
def test_versions_are_those_that_onnx_reads(ir_version, opsets):
    text = model(ir_version, opsets)
    reference = onnx.load_from_string(text)
    needs = needs_of(text)
    assert needs.ir_version == reference.ir_version
    assert needs.opsets == {entry.domain or "ai.onnx": entry.version for entry in reference.opset_import}
    assert needs.backend == "onnxruntime"


@pytest.mark.parametrize("text", [b"", b"\x00", b"<html>", b"\x08\x0a", b"\xff" * 40, model(10, {"": 18})[:-1]])
def test_what_is_no_model_is_refused(text):
    with pytest.raises(InputError, match="not a serialised ONNX model"):
        needs_of(text)


@given(st.binary(max_size=100))
def test_whatever_the_bytes_the_answer_is_versions_or_an_error_of_ours(text):
    try:
        needs = needs_of(text)
    except InputError:
        return
    assert needs.ir_version >= 1
