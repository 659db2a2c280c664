"""Which architecture a graph shows, and smaller ones of the same kind.

The first rule that fits decides; it looks at operators and weights only, so that a model that came as ONNX is read like
one that was trained here:

| a record is | the graph has | architecture | and its sizes |
| --- | --- | --- | --- |
| [D] | linear layers | tabular-mlp | outputs of all layers but the last |
| [T, D] | LSTM or GRU | window-lstm, window-gru | hidden size, direction and number of these nodes |
| [T, D] | a Softmax or Attention | window-transformer | width of the normalised axis, one layer a Softmax |
| [T, D] | convolutions | window-cnn | their output channels |
| [C, S, S] | convolutions | residual-cnn | output channels, each width where it first appears |
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from onnx import NodeProto, TensorProto, helper

from hauberk.compress.core import Core
from hauberk.errors import InputError

_NARROWEST = 2
"""Fewer units than this are no layer."""

_WIDTHS = {"tabular-mlp": "widths", "window-cnn": "channels", "residual-cnn": "widths"}
"""The parameter that lists one width a layer."""


def network_of(core: Core) -> tuple[str, dict[str, Any]]:
    """The architecture that a graph shows, by the rules above.

    Returns:
        Its name in `hauberk.models.ARCHITECTURES`, and its parameters besides the sizes of records and logits.

    Raises:
        InputError: No rule fits.
    """
    nodes, rank = core.model.graph.node, len(core.shape)
    if rank == 1 and (layers := core.linear_layers()):
        return "tabular-mlp", {"widths": [layer.weight.shape[1] for layer in layers[:-1]]}
    for kind, name in (("LSTM", "window-lstm"), ("GRU", "window-gru")):
        if rank == 2 and (found := [node for node in nodes if node.op_type == kind]):
            return name, _recurrent(found)
    if rank == 2 and (heads := sum(node.op_type in ("Softmax", "Attention", "MultiHeadAttention") for node in nodes)):
        return "window-transformer", {"width": _transformer_width(core), "layers": heads}
    channels = _channels(core)
    if rank == 2 and channels:
        return "window-cnn", {"channels": channels}
    if rank == 3 and channels and core.shape[1] == core.shape[2]:
        return "residual-cnn", {"widths": list(dict.fromkeys(channels))}
    raise InputError(
        f"{core.step}: the graph on {list(core.shape)} a record shows none of the reference architectures;"
        " name the student's architecture"
    )


def scaled(architecture: str, parameters: dict[str, Any], width: float, depth: float) -> dict[str, Any]:
    """The parameters of a smaller network of the same kind.

    Of a list of widths the layers next to the input go, as most weights are there.

    Args:
        architecture: As `network_of` names it.
        parameters: Likewise.
        width: Fraction of units and channels that is kept, in (0, 1].
        depth: Fraction of layers that is kept, in (0, 1]; at least one stays.
    """
    if architecture in _WIDTHS:
        name = _WIDTHS[architecture]
        widths = parameters[name]
        kept = widths[len(widths) - _share(len(widths), depth) :] if widths else []
        return {name: [_share(units, width, _NARROWEST) for units in kept]}
    layers = _share(parameters["layers"], depth)
    if architecture == "window-transformer":
        units = _share(parameters["width"], width, _NARROWEST)
        heads = 4 if units >= 32 else 2
        return {"width": heads * math.ceil(units / heads), "heads": heads, "layers": layers}
    return parameters | {"hidden": _share(parameters["hidden"], width, _NARROWEST), "layers": layers}


def _share(number: int, fraction: float, least: int = 1) -> int:
    return max(least, math.ceil(number * fraction - 1e-9))


def _recurrent(nodes: list[NodeProto]) -> dict[str, Any]:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in nodes[0].attribute}
    return {
        "hidden": int(attributes["hidden_size"]),
        "layers": len(nodes),
        "bidirectional": attributes.get("direction", b"forward") == b"bidirectional",
    }


def _transformer_width(core: Core) -> int:
    """The size that most linear layers put out: queries, keys, values, and what comes back to the shortcut."""
    sizes = Counter(layer.weight.shape[1] for layer in core.linear_layers())
    if not sizes:
        raise InputError(f"{core.step}: the Transformer's linear layers have no constant float32 weights")
    return int(sizes.most_common(1)[0][0])


def _channels(core: Core) -> list[int]:
    """Output channels of each convolution with constant weights, in graph order."""
    weights: dict[str, TensorProto] = {tensor.name: tensor for tensor in core.model.graph.initializer}
    found = (weights.get(node.input[1]) for node in core.model.graph.node if node.op_type == "Conv")
    return [int(weight.dims[0]) for weight in found if weight is not None]
