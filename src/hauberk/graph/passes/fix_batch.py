"""The free batch dimension becomes a number."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import msgspec

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.check import check_model
from hauberk.graph.model import onnx_only, parse, signature_of
from hauberk.recipe import Context, Contract, Exact, Step


class FixBatch(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fix-batch"):
    """Declares that the graph takes exactly `batch` records, so that every shape is known before it runs.

    Legal when every input's first dimension is free and the graph runs on that many records; inner shapes are dropped
    and inferred again. The answers to so many records stay, bit for bit; any other number is refused by the runtime.

    A free dimension that is called like an input's first one is that size too, wherever it stands; an output whose
    first dimension is called otherwise (rows that the graph selects, say) stays open.

    Since the graph then takes less than it did, this is no pass for a core (whose records come in batches of any size)
    and none of the default ones: verification rightly says that the inputs have changed, unless it is told to accept it
    (`GraphVerifier(narrowed=True)`), and then compares the two graphs on what both take.

    Attributes:
        batch: Records in a call.
    """

    batch: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 1

    @property
    def contract(self) -> Contract:
        """The same bits for so many records."""
        return Exact()

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - a pass needs no records
        """Return the graph for that many records.

        Raises:
            InputError: The artifact is no graph, an input has another fixed batch, or the graph does not take so many.
        """
        graph = onnx_only(artifact, self.name)
        proto = parse(graph.model)
        initializers = {tensor.name for tensor in proto.graph.initializer}
        names = set()
        for value in proto.graph.input:
            sizes = value.type.tensor_type.shape.dim
            if value.name in initializers:
                continue
            if not sizes or (sizes[0].HasField("dim_value") and sizes[0].dim_value != self.batch):
                raise InputError(f"{self.name}: {value.name!r} has no free batch dimension to fix")
            names.add(sizes[0].dim_param)
            sizes[0].dim_value = self.batch
        for value in (*proto.graph.input, *proto.graph.output):
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param and size.dim_param in names:
                    size.dim_value = self.batch
        del proto.graph.value_info[:]
        model = proto.SerializeToString(deterministic=True)
        check_model(model)
        return replace(graph, model=model, signature=signature_of(proto))
