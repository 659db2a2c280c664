"""What a model takes and gives, and a clear word where that is not what the data has."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hauberk.errors import InputError
from hauberk.ingest.signature import onnx_signature, torch_signature
from hauberk.models import TabularMLP, WindowLSTM
from hauberk.tensors import Signature, TensorSpec

EXPECTED = Signature(
    (TensorSpec("features", "float32", ("batch", 57)),), (TensorSpec("logits", "float32", ("batch", 2)),)
)


@pytest.mark.parametrize("inputs", [57, None])
def test_a_module_has_the_signature_that_a_forward_pass_shows(inputs):
    assert torch_signature(TabularMLP(57, (4,)).eval(), None, inputs, "model.pt") == EXPECTED


def test_another_width_than_the_data_has_is_named():
    with pytest.raises(InputError, match=r"model\.pt: the model takes 57 features, the data has 41$"):
        torch_signature(TabularMLP(57, (4,)).eval(), None, 41, "model.pt")


class Odd(nn.Module):
    """Gives whatever it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, features):
        return self.answer(features)


def fail(features):
    raise KeyError("lost\nin two lines")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda features: features.sum(), "logits float32"),
        (lambda features: features[:1], "gives 1×57 of torch.float32"),
        (lambda features: features.argmax(dim=1, keepdim=True), "gives 2×1 of torch.int64"),
        (lambda features: (features, features), "it returns tuple, not a tensor"),
        (fail, "does not take 57 features: KeyError"),
    ],
)
def test_a_module_that_gives_no_logits_is_refused_in_one_line(answer, says):
    with pytest.raises(InputError) as raised:
        torch_signature(Odd(answer).eval(), None, 57, "model.pt")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_width_that_cannot_be_told_is_asked_for():
    with pytest.raises(InputError, match="cannot tell how many features"):
        torch_signature(Odd(lambda features: features).eval(), None, None, "model.pt")


def model(features=("batch", 57), logits=("batch", 2), *, kind=TensorProto.FLOAT, outputs=1) -> onnx.ModelProto:
    names = ["logits", "labels"][:outputs]
    weight = numpy_helper.from_array(np.ones((57, 2), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weight"], names[:1])],
        "linear",
        [
            helper.make_tensor_value_info("features", kind, features),
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, (57, 2)),  # IR < 4 lists weights here too
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, logits) for name in names],
        [weight],
    )
    return helper.make_model(graph)


@pytest.mark.parametrize("features", [("batch", 57), (None, 57), ("batch", "width")])
def test_an_onnx_model_has_the_signature_that_its_graph_says(features):
    assert onnx_signature(model(features), None, 57, "model.onnx") == EXPECTED


@pytest.mark.parametrize(
    ("proto", "inputs", "says"),
    [
        (model(), 41, "the model takes 57 features, the data has 41"),
        (model(("batch", "width")), None, "leaves the number of features open"),
        (model(logits=("batch", "k")), 57, "leaves the number of logits open"),
        (model((57,)), 57, r"input 'features' is float \[57\]; features float32 \[batch, D\] is needed"),
        (model(kind=TensorProto.INT64), 57, "input 'features' is int64"),
        (model(outputs=2), 57, r"has 2 outputs \(logits, labels\); one is needed"),
    ],
)
def test_an_onnx_model_of_another_form_is_refused(proto, inputs, says):
    with pytest.raises(InputError, match=says):
        onnx_signature(proto, None, inputs, "model.onnx")


def test_a_module_that_says_its_records_shape_is_taken_at_its_word():
    signature = torch_signature(WindowLSTM(5, 8, 4).eval(), None, None, "model.pt")
    assert signature.inputs == (TensorSpec("features", "float32", ("batch", 8, 5)),)


def test_a_shape_that_is_none_is_refused():
    odd = nn.Linear(5, 2)
    odd.record_shape = [5]
    with pytest.raises(InputError, match=r"record_shape of the model is \[5\]"):
        torch_signature(odd, None, None, "model.pt")


def images(*shape: int | str) -> onnx.ModelProto:
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["logits"])]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", shape[0]])
    return helper.make_model(helper.make_graph(nodes, "images", [given], [answer]))


def test_an_onnx_model_of_images_keeps_its_sizes():
    signature = onnx_signature(images(3, 8, 8), None, None, "model.onnx")
    assert signature.inputs[0].shape == ("batch", 3, 8, 8)


def test_an_onnx_model_with_an_open_size_is_refused():
    with pytest.raises(InputError, match="leaves height of a record open"):
        onnx_signature(images(3, "height", 8), None, None, "model.onnx")


def test_an_onnx_model_of_images_does_not_take_columns():
    with pytest.raises(InputError, match=r"features float32 \[batch, D\] is needed"):
        onnx_signature(images(3, 8, 8), None, 57, "model.onnx")
