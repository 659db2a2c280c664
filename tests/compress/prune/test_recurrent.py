"""Hidden units of recurrent layers: the pruned graph is the torch layer whose weights were sliced by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.compress.core import read_core
from hauberk.compress.prune.analysis import Place
from hauberk.compress.prune.dependencies import analyse
from hauberk.compress.prune.prepare import prepare
from hauberk.compress.prune.remove import remove
from hauberk.compress.tuning import answers
from hauberk.graph.export import export
from hauberk.tensors import Signature, TensorSpec

STEPS, WIDTH, HIDDEN = 5, 7, 6
KEPT = [0, 2, 5]


class Recurrent(nn.Module):
    """A recurrent layer and a linear one on its last output."""

    def __init__(self, kind: type[nn.RNNBase], *, hidden: int, directions: int) -> None:
        super().__init__()
        self.body = kind(WIDTH, hidden, batch_first=True, bidirectional=directions == 2)
        self.head = nn.Linear(directions * hidden, 2)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(windows)[0][:, -1])


def exported(module: nn.Module) -> OnnxArtifact:
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", STEPS, WIDTH)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
    )
    return export(TorchArtifact(module.eval(), signature, "0" * 64))


def sliced(whole: Recurrent, kind: type[nn.RNNBase], directions: int) -> Recurrent:
    """The layer with `KEPT` units: rows of every gate, columns of the recurrent matrix, columns of the head."""
    small = Recurrent(kind, hidden=len(KEPT), directions=directions)
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    rows = [gate * HIDDEN + unit for gate in range(gates) for unit in KEPT]
    with torch.no_grad():
        for name, parameter in small.body.named_parameters():
            value = getattr(whole.body, name)[rows]
            parameter.copy_(value[:, KEPT] if name.startswith("weight_hh") else value)
        columns = [direction * HIDDEN + unit for direction in range(directions) for unit in KEPT]
        small.head.weight.copy_(whole.head.weight[:, columns])
        small.head.bias.copy_(whole.head.bias)
    return small


@pytest.mark.parametrize(("kind", "directions"), [(nn.LSTM, 2), (nn.GRU, 1), (nn.RNN, 1)])
def test_the_same_as_slicing_by_hand(kind: type[nn.RNNBase], directions: int) -> None:
    torch.manual_seed(1)
    whole = Recurrent(kind, hidden=HIDDEN, directions=directions)
    core = exported(whole)
    dependencies = analyse(prepare(core, "test"))
    units = _labels_of_hidden_units(dependencies.axes, HIDDEN)
    gone = [unit for position, unit in enumerate(units) if position not in KEPT]
    result = remove(read_core(core, "test"), dependencies, gone)
    records = np.random.default_rng(0).normal(size=(9, STEPS, WIDTH)).astype(np.float32)
    with torch.no_grad():
        expected = sliced(whole, kind, directions).eval()(torch.from_numpy(records)).numpy()
    np.testing.assert_allclose(answers(result, records), expected, rtol=1e-5, atol=1e-6)


def _labels_of_hidden_units(axes: dict[Place, np.ndarray], hidden: int) -> list[int]:
    """The unit of each hidden position, read off the recurrent matrix: its last axis is as long as the state."""
    return next(labels.tolist() for labels in axes.values() if len(labels) == len(set(labels)) == hidden)


def test_units_that_nobody_reads_go_without_a_trace() -> None:
    """Outgoing weights zero: removing them changes no number that is left, and so no answer."""
    torch.manual_seed(2)
    whole = Recurrent(nn.LSTM, hidden=HIDDEN, directions=1)
    gone = [unit for unit in range(HIDDEN) if unit not in KEPT]
    with torch.no_grad():
        whole.body.weight_hh_l0[:, gone] = 0
        whole.head.weight[:, gone] = 0
    core = exported(whole)
    dependencies = analyse(prepare(core, "test"))
    labels = _labels_of_hidden_units(dependencies.axes, HIDDEN)
    result = remove(read_core(core, "test"), dependencies, [labels[unit] for unit in gone])
    records = np.random.default_rng(0).normal(size=(9, STEPS, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(answers(result, records), answers(core, records), rtol=1e-6, atol=1e-6)
