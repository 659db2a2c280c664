"""Constants that are stored twice are stored once."""

from __future__ import annotations

import hashlib

import onnx_ir as ir

from hauberk.graph.passes.rewriting import Editor, GraphPass
from hauberk.recipe import Contract, Exact


class ShareInitializers(GraphPass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="share-initializers"):
    """Of several initializers with the same type, shape and bytes only the first stays; all users take that one.

    Legal when none of them can be replaced by a caller (is an input too) or is an output of the graph, and they hold no
    strings. Bytes are compared, not numbers: 0 and −0 are two.
    """

    @property
    def contract(self) -> Contract:
        """The same bytes, stored once."""
        return Exact()

    def change(self, editor: Editor) -> bool:
        """Redirect the users of every repeated initializer."""
        seen: dict[object, ir.Value] = {}
        changed = False
        for value in tuple(editor.graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or value.is_graph_input() or value.is_graph_output() or not value.uses():
                continue
            if tensor.dtype == ir.DataType.STRING:
                continue
            key = (tensor.dtype, tuple(tensor.shape), hashlib.sha256(tensor.tobytes()).digest())
            first = seen.setdefault(key, value)
            if first is not value:
                ir.convenience.replace_all_uses_with(value, first)
                changed = True
        return changed
