"""Batch normalisation with fixed statistics becomes part of the layer beside it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.linear import Doubles, read_layer
from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    float_constant,
    integer,
    is_operator,
    producer,
    rank_of,
    used_once,
)
from hauberk.recipe import Close, Contract


class FuseBatchNormalization(
    RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fuse-batch-normalization"
):
    """Folds BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it, or into the one behind it.

        y = (x − mean) / sqrt(variance + epsilon) · gamma + beta  =  x · s + t
        s = gamma / sqrt(variance + epsilon)        t = beta − mean · s

    Legal when:

    1. the node does not train (`training_mode` 0) and only its first output is used;
    2. statistics and parameters are finite constants with variance + epsilon above 0, and so are the weights;
    3. nobody else uses the value between the two, or the weights;
    4. the channels are the layer's columns: Gemm and MatMul of matrices only;
    5. into the layer behind it only where that one does not pad: what it adds is 0 after normalisation, not before.

    Close, not exact. onnxscript's rules for Conv, ConvTranspose and Gemm pass verification too; this one adds MatMul
    and the layer behind, folds in double precision, and refuses what would overflow.
    """

    @property
    def contract(self) -> Contract:
        """Rounded in another place."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Fuse at a normalisation (with the layer before it), or at a layer (with the normalisation before it)."""
        if is_operator(node, "BatchNormalization"):
            return _into_previous(node, editor)
        return _into_next(node, editor)


def _into_previous(node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
    value = node.inputs[0]
    layer = read_layer(value.producer()) if value is not None else None
    if layer is None:
        return None
    found = _scale_and_shift(node, layer.outputs)
    if isinstance(found, Refusal):
        return found
    if not used_once(value) or layer.shared:
        return Refusal("the layer's result or its weights have another user")
    if layer.linear and rank_of(layer.input) != 2:
        return Refusal("the columns of the product are not the channels of the normalisation")
    replaced = layer.scaled_outputs(*found).written(editor, node.outputs[0])
    if isinstance(replaced, Refusal):
        return replaced
    return Replacement((*replaced.values, *[None] * (len(node.outputs) - 1)), replaced.nodes)


def _into_next(node: ir.Node, editor: Editor) -> Replacement | Refusal | None:  # noqa: PLR0911 - one return a rule
    layer = read_layer(node, "Gemm", "MatMul", "Conv")
    normalisation = producer(node.inputs[0], "BatchNormalization") if layer is not None else None
    if layer is None or normalisation is None:
        return None
    if read_layer(producer(normalisation.inputs[0])) is not None and used_once(normalisation.inputs[0]):
        return None  # it goes into the layer before it
    found = _scale_and_shift(normalisation, layer.inputs)
    if isinstance(found, Refusal):
        return found
    if not used_once(node.inputs[0]) or layer.shared:
        return Refusal("the normalised value or the weights have another user")
    if layer.linear and rank_of(layer.input) != 2:
        return Refusal("the channels of the normalisation are not the rows of the weights")
    if not layer.linear and layer.padded:
        return Refusal("the layer pads, and a normalised zero is none")
    return layer.scaled_inputs(*found).written(editor, node.outputs[0], normalisation.inputs[0])


def _scale_and_shift(node: ir.Node, channels: int) -> tuple[Doubles, Doubles] | Refusal:
    """Scale and shift, float64 [channels]."""
    if integer(node, "training_mode") or any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return Refusal("it computes statistics of its own")
    constants = [float_constant(value) for value in node.inputs[1:5]]
    gamma, beta, mean, variance = (None if c is None else c.astype(np.float64) for c in constants)
    if gamma is None or beta is None or mean is None or variance is None:
        return Refusal("its parameters are no finite constants")
    spread = variance + node.attributes.get_float("epsilon", 1e-5)
    if not (gamma.shape == beta.shape == mean.shape == spread.shape == (channels,)) or (spread <= 0).any():
        return Refusal("its parameters do not fit the layer, or its variance is not positive")
    scale = gamma / np.sqrt(spread)
    return scale, beta - mean * scale
