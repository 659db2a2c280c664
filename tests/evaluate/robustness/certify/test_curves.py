"""Every curve: its lines enclose it, its intervals hold what ONNX Runtime answers, and ReLU's are CROWN's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from hauberk.errors import InputError
from hauberk.evaluate.robustness.certify.curves import Curve, Interval
from hauberk.evaluate.robustness.certify.functions import CURVES, Operands
from hauberk.graph.twin.node import Node

from .conftest import build, node, session


def curve(operator: str, *constants: torch.Tensor | float | None, **attributes: object) -> Curve:
    made = Node(operator, "n", attributes, (), (TensorProto.UINT8,), on_input=False)
    tensors = [None if value is None else torch.as_tensor(value, dtype=torch.float64) for value in constants]
    return CURVES[operator](Operands(made, tuple(tensors), torch.empty(1, 1)))


KINDS = {
    "Abs": ((), {}),
    "Clip": ((-0.5, 1.5), {}),
    "Clip below": ((0.25, None), {}),
    "Clip upside down": ((1.0, -1.0), {}),
    "Elu": ((), {"alpha": 1.5}),
    "HardSigmoid": ((), {"alpha": 0.3, "beta": 0.4}),
    "HardSwish": ((), {}),
    "LeakyRelu": ((), {"alpha": 0.1}),
    "LeakyRelu steep": ((), {"alpha": -2.0}),
    "Max": ((0.5,), {}),
    "Min": ((0.5,), {}),
    "PRelu": ((0.25,), {}),
    "QuantizeLinear": ((0.25, 4), {}),
    "QuantizeLinear fine": ((0.003, 128), {}),
    "Relu": ((), {}),
    "Sigmoid": ((), {}),
    "Softplus": ((), {}),
    "Tanh": ((), {}),
}
every_curve = pytest.mark.parametrize("kind", KINDS)


def of(kind: str) -> Curve:
    constants, attributes = KINDS[kind]
    return curve(kind.partition(" ")[0], *constants, **attributes)


def deployed(kind: str, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of float32 [N]; codes as numbers."""
    constants, attributes = KINDS[kind]
    operator = kind.partition(" ")[0]
    kinds = (np.float32, np.uint8 if operator == "QuantizeLinear" else np.float32)
    present = [place for place, value in enumerate(constants) if value is not None]
    given = {f"c{place}": np.array(constants[place], kinds[place]) for place in present}
    names = [f"c{place}" if value is not None else "" for place, value in enumerate(constants)]
    result = "codes" if operator == "QuantizeLinear" else "logits"
    nodes = [node(operator, ["features", *names], result, **attributes)]
    if operator == "QuantizeLinear":
        nodes.append(node("Cast", ["codes"], "logits", to=TensorProto.FLOAT))
    return session(build(nodes, given, [1], outputs=1))(x[:, None])[:, 0]


@every_curve
@settings(max_examples=60, deadline=None)
@example(middle=-1e-45, width=0.0)  # a product that is too small for float32 becomes 0
@given(middle=st.floats(-12, 12), width=st.one_of(st.just(0.0), st.floats(1e-9, 20)))
def test_lines_and_intervals_hold_the_function(kind, middle, width):
    ends = np.float32(middle - width / 2), np.float32(middle + width / 2)
    x = np.unique(np.concatenate([np.linspace(*ends, 41, dtype=np.float32), ends]).clip(*ends))
    answers = torch.from_numpy(deployed(kind, x).astype(np.float64))
    interval = Interval(*(torch.tensor([float(end)], dtype=torch.float64) for end in ends))
    shape, points = of(kind), torch.from_numpy(x.astype(np.float64))
    lines, enclosed = shape.lines(interval), shape.enclose(interval)
    assert (answers >= enclosed.low).all()
    assert (answers <= enclosed.high).all()
    assert (answers >= lines.lower.at(points)).all()
    assert (answers <= lines.upper.at(points)).all()


@every_curve
def test_lines_are_close_to_the_function(kind):
    """On a narrow interval they are no farther apart than rounding or a kink makes them."""
    low = torch.linspace(-6, 6, 200, dtype=torch.float64)
    lines = of(kind).lines(Interval(low, low + 1e-2))
    gap = lines.upper.at(low + 5e-3) - lines.lower.at(low + 5e-3)
    assert gap.max() <= (1.01 if kind.startswith("Quantize") else 0.03)


def test_relu_has_the_lines_of_crown():
    """Zhang et al. 2018: above the chord, below 0 or the identity, whichever leaves the smaller area."""
    low = torch.tensor([-3.0, -1.0, 0.5, -2.0], dtype=torch.float64)
    high = torch.tensor([1.0, 3.0, 2.0, -1.0], dtype=torch.float64)
    lines = of("Relu").lines(Interval(low, high))
    assert lines.lower.slope.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert lines.upper.slope.tolist() == pytest.approx([0.25, 0.75, 1.0, 0.0])
    assert lines.upper.offset.tolist() == pytest.approx([0.75, 0.75, 0.0, 0.0], abs=1e-9)
    assert lines.lower.offset.tolist() == pytest.approx([0.0] * 4, abs=1e-9)


def test_a_quantizer_within_one_code_is_a_constant():
    lines = of("QuantizeLinear").lines(Interval(torch.tensor([0.26]).double(), torch.tensor([0.36]).double()))
    assert [float(value) for line in lines for value in line] == [0.0, 5.0, 0.0, 5.0]


@pytest.mark.parametrize("operator", ["Sigmoid", "Tanh", "Softplus", "Elu", "HardSwish", "HardSigmoid", "LeakyRelu"])
def test_the_error_granted_to_a_function_covers_that_of_the_runtime(operator):
    """At a tenth of a million points, with room to spare."""
    x = np.concatenate([np.linspace(-40, 40, 80_001), np.linspace(-1, 1, 20_001)]).astype(np.float32)
    made, points = of(operator), torch.from_numpy(x.astype(np.float64))
    off = np.abs(deployed(operator, x) - made(points).numpy())
    granted = made.error(Interval(points, points)).numpy()
    assert (off <= granted / 2).all()


@pytest.mark.parametrize(
    ("operator", "constants", "attributes"),
    [("QuantizeLinear", (0.0, 4), {}), ("HardSigmoid", (), {"alpha": 0.0}), ("Elu", (), {"alpha": -1.0})],
)
def test_what_has_no_lines_is_refused(operator, constants, attributes):
    with pytest.raises(InputError, match=rf"cannot certify: operator {operator} \(node 'n'\)"):
        curve(operator, *constants, **attributes)
