"""From a trained module to a core graph, as a step that is verified like any other."""

from __future__ import annotations

from hauberk.artifact import Artifact, OnnxArtifact, TorchArtifact
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.recipe import Close, Context, Contract, Step


class Export(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="export"):
    """`torch.onnx.export` with the opset pinned, compared with the module that it came from.

    Torch and ONNX Runtime sum in different orders, so outputs are close and not bit-identical.
    """

    @property
    def contract(self) -> Contract:
        """Two implementations of the same float32 arithmetic."""
        return Close(rtol=1e-4, atol=1e-4)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the module's graph.

        Raises:
            InputError: The artifact is no torch module, or torch cannot export it.
        """
        if not isinstance(artifact, TorchArtifact):
            raise InputError("export: the model is a graph already")
        return export(artifact, remark=context.remark)
