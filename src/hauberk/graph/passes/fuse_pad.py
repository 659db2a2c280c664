"""Zeros padded around an image become the padding of the convolution behind it."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    axes_of,
    constant_of,
    is_operator,
    producer,
    rank_of,
)
from hauberk.recipe import Close, Contract


class FusePad(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fuse-pad"):
    """Moves zeros that a Pad adds into the Conv behind it.

        Conv(Pad(x, p), pads=q)  =  Conv(x, pads=p + q)

    Legal when:

    1. the Pad writes the constant 0, and its widths are constant, none negative, on spatial axes only;
    2. the Conv names its pads itself (`auto_pad` NOTSET or VALID).

    Other users of the padded value keep it. Close, not exact: a convolution need not multiply what it pads itself, so
    that an infinite weight is NaN before and not after, and a kernel for another padding may sum in another order.
    """

    @property
    def contract(self) -> Contract:
        """Sums in another order."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Fuse a convolution with the padding before it."""
        pad = producer(node.inputs[0], "Pad") if is_operator(node, "Conv") else None
        rank = rank_of(pad.inputs[0]) if pad is not None else None
        if pad is None or rank is None or rank < 3:
            return None
        if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return Refusal("the convolution computes its pads from the size of its input")
        widths = _widths(pad, rank)
        if isinstance(widths, Refusal):
            return widths
        spatial = [*widths[2:rank], *widths[rank + 2 :]]
        own = node.attributes.get_ints("pads", [0] * len(spatial))
        attributes = {name: value for name, value in node.attributes.items() if name not in ("auto_pad", "pads")}
        pads = [first + second for first, second in zip(spatial, own, strict=True)]
        attributes["pads"] = ir.AttrInt64s("pads", pads)
        inputs = [pad.inputs[0], *node.inputs[1:]]
        made = editor.node(
            "Conv", inputs, f"{node.outputs[0].name}_padded", like=node.outputs[0], attributes=attributes
        )
        return Replacement((made.outputs[0],), (made,))


def _widths(pad: ir.Node, rank: int) -> list[int] | Refusal:
    """How much the Pad adds at the beginning of every axis, then at the end of every axis."""
    if pad.attributes.get_string("mode", "constant") != "constant":
        return Refusal("the Pad repeats or mirrors")
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    if value is not None and ((constant := constant_of(value)) is None or constant.any()):
        return Refusal("the Pad writes something else than 0")
    constant = constant_of(pad.inputs[1])
    axes = axes_of(pad, 3) if len(pad.inputs) > 3 and pad.inputs[3] is not None else tuple(range(rank))
    if constant is None or axes is None:
        return Refusal("the widths of the Pad are not constant")
    widths = [0] * (2 * rank)
    for position, axis in enumerate(axes):
        widths[axis % rank] = int(constant[position])
        widths[axis % rank + rank] = int(constant[position + len(axes)])
    if any(width < 0 for width in widths) or any((*widths[:2], *widths[rank : rank + 2])):
        return Refusal("the Pad crops, or widens records or channels")
    return widths
