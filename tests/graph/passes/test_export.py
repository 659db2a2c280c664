"""Export as a step: verified against the module like any other change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.recipe import Recipe


def test_a_detector_s_graph_is_kept(detector, context_of):
    result = Recipe("export", (Export(),)).apply(detector, context_of(119), verify)
    assert isinstance(result, OnnxArtifact)
    assert (result.history[0].kept, result.history[0].before) == (True, detector.digest)


class Moody(nn.Module):
    """Answers otherwise while it is traced: what an exporter cannot be blamed for, and verification must find."""

    def forward(self, features):
        return features * (2 if torch.compiler.is_exporting() else 1)


def test_a_graph_that_answers_otherwise_is_undone(torch_artifact, context_of):
    artifact = torch_artifact(Moody(), 2)
    result = Recipe("export", (Export(),)).apply(artifact, context_of(2), verify)
    assert result.module is artifact.module
    assert "output 'logits' went from" in result.history[0].verdict.reason


def test_a_graph_is_refused(core, context_of):
    with pytest.raises(InputError, match="a graph already"):
        Export().apply(core, context_of(119))
