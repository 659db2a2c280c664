"""Bring a graph to its shortest plain form without changing what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants_ir

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.graph.model import onnx_only, parse
from hauberk.graph.passes.rewriting import Editor
from hauberk.graph.passes.share_subexpressions import ShareSubexpressions
from hauberk.recipe import Close, Context, Contract, Step

_ROUNDS = 10
"""A bound on repetition; each round only ever shortens the graph, and two are enough for what exporters write."""


class CleanUp(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="clean-up"):
    """Inlines functions, folds constants, and drops what is repeated, dead or does nothing.

    Each rewrite is legal under these rules, all of them enforced by the libraries that do it:

    1. A node is folded when all its inputs are constants, none of them a graph input, and it is deterministic; it is
       not folded when an input has more than `largest_input` elements or the result more than `largest_output` (a
       folded `ConstantOfShape` could fill the memory), nor when it quantizes or dequantizes (a fold would throw the
       quantization away). Folding runs in another implementation than ONNX Runtime, so results are close, not exact.
    2. An `Identity` goes when that renames no graph input or output.
    3. Of two nodes with the same operator, attributes and inputs one stays; non-deterministic ones are left alone.
    4. A node, function or constant whose result reaches no output goes.

    Attributes:
        largest_input: Elements of a tensor that is still folded.
        largest_output: Elements of a tensor that a fold may make.
    """

    largest_input: int = 1 << 16
    largest_output: int = 1 << 18

    @property
    def contract(self) -> Contract:
        """Folded arithmetic may round differently."""
        return Close()

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - a pass needs no records
        """Return the cleaned graph.

        Raises:
            InputError: The artifact is no graph.
        """
        graph = onnx_only(artifact, self.name)
        model = ir.serde.deserialize_model(parse(graph.model))
        self.clean(model)
        return replace(graph, model=ir.serde.serialize_model(model).SerializeToString(deterministic=True))

    def clean(self, model: ir.Model) -> None:
        """Clean a graph in place."""
        declared = [(value.name, value.type, value.shape) for value in model.graph.outputs]
        common.InlinePass()(model)
        for _ in range(_ROUNDS):
            if not self._round(model):
                break
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        common.DeduplicateInitializersPass()(model)
        common.RemoveUnusedOpsetsPass()(model)
        common.NameFixPass()(model)
        _keep_outputs(model.graph, declared)

    def _round(self, model: ir.Model) -> bool:
        """Every rewrite once; say whether any found something to do."""
        folded = fold_constants_ir(
            model, input_size_limit=self.largest_input, output_size_limit=self.largest_output
        ).modified
        shared = ShareSubexpressions().change(Editor(model, model.opset_imports.get("", 0)))
        others = ir.passes.Sequential(
            common.IdentityEliminationPass(),
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        )
        return bool(others(model).modified or shared or folded)


def _keep_outputs(
    graph: ir.Graph, declared: Sequence[tuple[str | None, ir.TypeProtocol | None, ir.Shape | None]]
) -> None:
    """Give outputs their names and declarations back.

    A node that took a repeated one's place does not take its declaration; and where both were outputs, one value is
    left under one name, so that the other output needs a node of its own.
    """
    for index, (name, type_, shape) in enumerate(declared):
        value = graph.outputs[index]
        if value.name != name:
            node = ir.node("Identity", [value], name=name)
            graph.append(node)
            value = graph.outputs[index] = node.outputs[0]
            value.name = name
        value.type, value.shape = type_, shape
