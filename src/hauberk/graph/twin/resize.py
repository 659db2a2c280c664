"""Resize: nearest and linear interpolation, axis by axis.

Interpolating along one axis after the other equals interpolating along all of them, so an axis needs two gathers and a
weighted sum, whatever its rank. Coordinates are computed in float32 as ONNX Runtime does, because where a coordinate
falls between two elements decides which of them is the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hauberk.graph.twin.node import Node, Operator, integers

_Floats = NDArray[np.float32]


def _resize(
    node: Node, data: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    del roi  # only tf_crop_and_resize, which is refused, looks at it
    mode = node.get("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise node.unsupported(f"the mode {mode}")
    if node.get("antialias", 0) or node.get("exclude_outside", 0):
        raise node.unsupported("antialias or exclude_outside")
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unsupported(f"the policy {node.attributes['keep_aspect_ratio_policy']}")
    axes = node.get("axes", list(range(data.dim())))
    for axis, after, scale in _targets(data, axes, scales, sizes):
        before = data.shape[axis]
        if after == before and scale == 1:
            continue
        where = _coordinates(node, before, after, scale)
        data = (_nearest if mode == "nearest" else _linear)(node, data, axis, where)
    return data


def _targets(
    data: Tensor, axes: list[int], scales: Tensor | None, sizes: Tensor | None
) -> Iterator[tuple[int, int, np.float32]]:
    """Each axis with its new size and its scale, whichever of the two the graph gives."""
    if scales is not None and scales.numel():
        for axis, factor in zip(axes, scales.reshape(-1).tolist(), strict=True):
            scale = np.float32(factor)
            yield axis, int(np.floor(np.float32(data.shape[axis]) * scale)), scale
        return
    for axis, size in zip(axes, integers(sizes) or [], strict=True):
        yield axis, size, np.float32(size) / np.float32(data.shape[axis])


def _coordinates(node: Node, before: int, after: int, scale: np.float32) -> _Floats:
    """Where in the old axis each element of the new one lies."""
    new = np.arange(after, dtype=np.float32)
    half, one = np.float32(0.5), np.float32(1)
    rules: dict[str, Callable[[], _Floats]] = {
        "half_pixel": lambda: (new + half) / scale - half,
        "half_pixel_symmetric": lambda: _symmetric(new, before, after, scale),
        "pytorch_half_pixel": lambda: (new + half) / scale - half if after > 1 else np.zeros_like(new),
        "align_corners": lambda: new * np.float32(before - 1) / np.float32(after - 1) if after > 1 else new * 0,
        "asymmetric": lambda: new / scale,
    }
    rule = node.get("coordinate_transformation_mode", "half_pixel")
    if rule not in rules:
        raise node.unsupported(f"the coordinates {rule}")
    return (rules[rule]() * one).astype(np.float32)


def _symmetric(new: _Floats, before: int, after: int, scale: np.float32) -> _Floats:
    adjustment = np.float32(after) / (scale * np.float32(before))
    offset = np.float32(before) / 2 * (1 - adjustment)
    result: _Floats = (offset + (new + np.float32(0.5)) / scale - np.float32(0.5)).astype(np.float32)
    return result


def _nearest(node: Node, data: Tensor, axis: int, where: _Floats) -> Tensor:
    rules: dict[str, Callable[[_Floats], _Floats]] = {
        "round_prefer_floor": lambda place: np.ceil(place - np.float32(0.5)),
        "round_prefer_ceil": lambda place: np.floor(place + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    chosen = rules[node.get("nearest_mode", "round_prefer_floor")](where).astype(np.int64)
    return data.index_select(axis, _index(chosen, data, axis))


def _linear(node: Node, data: Tensor, axis: int, where: _Floats) -> Tensor:  # noqa: ARG001 - same form as _nearest
    inside = np.clip(where, 0, data.shape[axis] - 1)
    low = np.floor(inside).astype(np.int64)
    part = torch.from_numpy((inside - low).astype(np.float32)).to(data)
    part = part.reshape(-1, *[1] * (data.dim() - 1 - axis % data.dim()))
    first = data.index_select(axis, _index(low, data, axis))
    second = data.index_select(axis, _index(low + 1, data, axis))
    return first * (1 - part) + second * part


def _index(places: NDArray[np.int64], data: Tensor, axis: int) -> Tensor:
    return torch.from_numpy(np.clip(places, 0, data.shape[axis] - 1)).to(data.device)


OPERATORS: dict[str, Operator] = {"Resize": _resize}
