"""Both judges are asked: what either of them refuses is refused, in its own words and in one line."""

from __future__ import annotations

import pytest

from hauberk.errors import InputError
from hauberk.graph.check import check_model

HEAD = '<ir_version: 8, opset_import: ["" : 17, "nobody" : 1]> g (float[N,4] x) => (float[N,4] y)'


def test_a_sound_model_passes(core):
    check_model(core.model)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{HEAD} {{ y = Relu(z) }}", "onnx refuses the model: .*z"),
        ('<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (int64[N,4] y) { y = Relu(x) }', "onnx refuses"),
        (f"{HEAD} {{ y = nobody.Knows(x) }}", "ONNX Runtime refuses the model: .*Knows"),
    ],
    ids=["undefined tensor", "wrong type", "unknown operator"],
)
def test_faults_are_named_by_who_finds_them(graph_artifact, text, says):
    with pytest.raises(InputError, match=says) as caught:
        check_model(graph_artifact(text).model)
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_refused(core):
    with pytest.raises(InputError, match="not an ONNX model"):
        check_model(core.model[:-7])
