"""Normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator


def _channels(parameter: Tensor, data: Tensor) -> Tensor:
    """One value a channel, shaped to broadcast over data [N, C, *sizes]."""
    return parameter.reshape(1, -1, *[1] * (data.dim() - 2))


def _batch_normalization(
    node: Node, data: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """With the statistics that the graph holds, also while the twin trains."""
    if node.get("training_mode", 0):
        raise node.unsupported("training_mode")
    factor = scale / torch.sqrt(variance + node.get("epsilon", 1e-5))
    return (data - _channels(mean, data)) * _channels(factor, data) + _channels(bias, data)


def _instance_normalization(node: Node, data: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    axes = list(range(2, data.dim()))
    variance, mean = torch.var_mean(data, axes, correction=0, keepdim=True)
    normal = (data - mean) * torch.rsqrt(variance + node.get("epsilon", 1e-5))
    return normal * _channels(scale, data) + _channels(bias, data)


def _group_normalization(node: Node, data: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias one a channel (opset 21) or one a group (opset 18)."""
    groups, channels = node.attributes["num_groups"], data.shape[1]
    if scale.numel() == groups != channels:
        scale, bias = (value.repeat_interleave(channels // groups) for value in (scale, bias))
    return functional.group_norm(data, groups, scale, bias, node.get("epsilon", 1e-5))


def _layer_normalization(node: Node, data: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = data.shape[node.get("axis", -1) % data.dim() :]
    return functional.layer_norm(
        data, shape, scale.expand(shape), None if bias is None else bias.expand(shape), node.get("epsilon", 1e-5)
    )


def _rms_normalization(node: Node, data: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(node.get("axis", -1) % data.dim(), data.dim()))
    square = data.square().mean(axes, keepdim=True)
    return data * torch.rsqrt(square + node.get("epsilon", 1e-5)) * scale


def _lp_normalization(node: Node, data: Tensor) -> Tensor:
    """`x / |x|_p` along an axis; zero where the norm is zero."""
    axis, power = node.get("axis", -1), node.get("p", 2)
    norm = data.abs().sum(axis, keepdim=True) if power == 1 else data.square().sum(axis, keepdim=True).sqrt()
    return data / torch.where(norm == 0, torch.ones_like(norm), norm)


def _local_response_normalization(node: Node, data: Tensor) -> Tensor:
    """`x / (bias + alpha / size * sum of squares over `size` channels) ** beta`."""
    size = node.attributes["size"]
    before = (size - 1) // 2
    squares = functional.pad(data.square().transpose(1, -1), (before, size - 1 - before))
    total = squares.unfold(-1, size, 1).sum(-1).transpose(1, -1)
    weighted: Tensor = node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * total
    return data * torch.pow(weighted, -node.get("beta", 0.75))


def _mean_variance_normalization(node: Node, data: Tensor) -> Tensor:
    variance, mean = torch.var_mean(data, node.get("axes", [0, 2, 3]), correction=0, keepdim=True)
    return (data - mean) / torch.sqrt(variance + 1e-9)


def _skip_layer_normalization(
    node: Node, data: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    """ONNX Runtime's Add and LayerNormalization in one; also returns the sum where asked for."""
    total = data + skip if bias is None else data + skip + bias
    result = functional.layer_norm(total, total.shape[-1:], scale, shift, node.get("epsilon", 1e-12))
    unused = torch.empty(0, device=data.device)  # mean and deviation, which CPU kernels do not return either
    return result, unused, unused, total


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _local_response_normalization,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
    "SimplifiedLayerNormalization": _rms_normalization,
    "com.microsoft:SkipLayerNormalization": _skip_layer_normalization,
}
