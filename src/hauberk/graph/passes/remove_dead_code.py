"""What reaches no output goes."""

from __future__ import annotations

from onnx_ir.passes import common

from hauberk.graph.passes.rewriting import Editor, GraphPass
from hauberk.recipe import Contract, Exact


class RemoveDeadCode(GraphPass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="remove-dead-code"):
    """Removes nodes and initializers that no output depends on, in nested graphs too, and functions that nobody calls.

    Legal always: operators of a graph have no effect but their outputs. Inputs of the graph stay, used or not. ONNX
    Runtime removes dead nodes of its own accord only where it can, and computes decoys that it cannot see through.
    """

    @property
    def contract(self) -> Contract:
        """Nothing that is answered is touched."""
        return Exact()

    def change(self, editor: Editor) -> bool:
        """Remove it."""
        functions = common.RemoveUnusedFunctionsPass()(editor.model).modified  # type: ignore[no-untyped-call]
        return bool(common.RemoveUnusedNodesPass()(editor.model).modified or functions)
