"""What comes out of a conversion is scanned like a file that somebody sent, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.convert.admission import admit_graph
from hauberk.errors import RefusedModelError


def model(weights: onnx.TensorProto) -> bytes:
    entering = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    leaving = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [entering], [leaving], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = made.SerializeToString()
    return content


def test_a_plain_graph_is_admitted(tmp_path: Path) -> None:
    admit_graph(model(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")), str(tmp_path / "a.onnx"))


def test_a_graph_with_weights_in_a_file_beside_what_was_converted_is_refused(tmp_path: Path) -> None:
    """Its converter may have been taken over: it would carry a file of the user's away, which is a sound one here."""
    (tmp_path / "a.onnx").write_bytes(b"what was converted")
    (tmp_path / "private.bin").write_bytes(np.eye(4, dtype=np.float32).tobytes())
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="private.bin")
    with pytest.raises(RefusedModelError, match="it has weights in other files"):
        admit_graph(model(weights), str(tmp_path / "a.onnx"))


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "converted to nothing"), (b"\x80\x04cos\nsystem\n", "pickle-code")]
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(RefusedModelError, match=says):
        admit_graph(content, str(tmp_path / "a.onnx"))
