"""A change of type through a type that holds every value on the way becomes one."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass, integer, is_operator, producer
from hauberk.recipe import Contract, Exact

_T = ir.DataType
_UNSIGNED = {_T.BOOL: 1, _T.UINT8: 8, _T.UINT16: 16, _T.UINT32: 32, _T.UINT64: 64}
_SIGNED = {_T.INT8: 7, _T.INT16: 15, _T.INT32: 31, _T.INT64: 63}
"""Bits of magnitude."""
_FLOATS = {_T.FLOAT16: (11, 5), _T.BFLOAT16: (8, 8), _T.FLOAT: (24, 8), _T.DOUBLE: (53, 11)}
"""Bits of precision and of exponent."""


class MergeCasts(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="merge-casts"):
    """Skips the first of two casts.

        Cast(Cast(x, A), B)  =  Cast(x, B)

    Legal when A holds every value of the type of x exactly: then the second cast rounds what the first one was given.
    float32 → int64 → float32 truncates on the way and stays; float16 → float32 → float64 is one cast; float32 →
    float64 → float32 is none.

    Two more rules keep it exact in every implementation: what goes through a float never ends as an integer that does
    not hold it (what becomes of values out of range depends on the type that is converted: int16 → int8 wraps, float32
    → int8 saturates on some processors), and types of fewer than 8 bits, 8-bit floats and strings are left alone.
    """

    @property
    def contract(self) -> Contract:
        """The same bits."""
        return Exact()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Merge a cast with the one before it."""
        inner = producer(node.inputs[0], "Cast") if is_operator(node, "Cast") else None
        source = inner.inputs[0] if inner is not None else None
        if inner is None or source is None or source.dtype is None:
            return None
        between, target = ir.DataType(integer(inner, "to")), ir.DataType(integer(node, "to"))
        if not _holds(between, source.dtype):
            return Refusal(f"{between.name} does not hold every {source.dtype.name}")
        if source.dtype == target:
            return Replacement((source,))
        rounds = between in _FLOATS and target not in _FLOATS
        fits = target == _T.BOOL and source.dtype not in _FLOATS  # what is not 0 is true, whatever its type
        if target not in {*_UNSIGNED, *_SIGNED, *_FLOATS} or (rounds and not fits and not _holds(target, source.dtype)):
            return Refusal("values out of range would be converted from another type")
        old = node.outputs[0]
        made = editor.node("Cast", [source], f"{old.name}_cast", like=old, attributes={"to": int(target)})
        return Replacement((made.outputs[0],), (made,))


def _holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether a type holds every value of another exactly."""
    if wide == narrow:
        return wide in {*_UNSIGNED, *_SIGNED, *_FLOATS}
    if narrow in _FLOATS:
        return wide in _FLOATS and all(w >= n for w, n in zip(_FLOATS[wide], _FLOATS[narrow], strict=True))
    bits = _UNSIGNED.get(narrow) or _SIGNED.get(narrow)
    if bits is None or wide == _T.BOOL:
        return False
    if wide in _FLOATS:
        precision, exponent = _FLOATS[wide]
        return bits <= precision and bits < 2 ** (exponent - 1)
    if narrow in _SIGNED and wide in _UNSIGNED:
        return False
    return bits <= (_UNSIGNED.get(wide) or _SIGNED.get(wide) or 0)
