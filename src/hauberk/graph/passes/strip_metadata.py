"""Take out of a graph everything that a run does not need and a reader could learn from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.graph.model import onnx_only, parse
from hauberk.recipe import Context, Contract, Exact, Step


class StripMetadata(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="strip-metadata"):
    """Removes documentation, producer and metadata; exporters leave local paths and stack traces there.

    What goes is legal to remove because the ONNX specification gives none of it a meaning for a run:

    1. `doc_string` and `metadata_props`, wherever they stand, in nested graphs and functions too;
    2. producer name and version, domain and version of the model, training information;
    3. `value_info` of intermediate tensors (inferred again by whoever needs it), quantization annotations, denotations.

    Names of tensors and nodes stay, so that records and other steps can still refer to them.
    """

    @property
    def contract(self) -> Contract:
        """The same nodes on the same bytes."""
        return Exact()

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - a pass needs no records
        """Return the graph without its metadata.

        Raises:
            InputError: The artifact is no graph.
        """
        graph = onnx_only(artifact, self.name)
        return replace(graph, model=strip(graph.model))


_OF_MODEL = ("producer_name", "producer_version", "domain", "model_version", "training_info")
_ANYWHERE = ("doc_string", "metadata_props", "value_info", "quantization_annotation", "denotation")


def strip(model: bytes) -> bytes:
    """A serialised model without its metadata."""
    proto = parse(model)
    for field in _OF_MODEL:
        proto.ClearField(field)
    _strip(proto)
    serialised: bytes = proto.SerializeToString(deterministic=True)
    return serialised


def _strip(message: Any) -> None:
    """Clear what stands anywhere, in this message and all that it holds."""
    for field, value in message.ListFields():
        if field.name in _ANYWHERE:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                _strip(part)
