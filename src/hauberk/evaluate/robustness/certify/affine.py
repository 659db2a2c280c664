"""Affine nodes: what each computes, how large its terms are, and how often it rounds.

The functions are the twin's own, in float64. Two things are needed besides. The **size** of all terms of an element,
`|W| x + |b|`, is had from the same function with every constant replaced by its size. The number of **roundings** is
that of the products and sums that go into one element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hauberk.evaluate.robustness.certify.functions import cannot
from hauberk.evaluate.robustness.certify.operations import Adjoint, Affine
from hauberk.graph.twin.module import OPERATORS
from hauberk.graph.twin.node import Node

MOVES = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Neg",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that move elements about, or turn their sign, and compute nothing."""

_JOINS = frozenset({"Add", "Concat", "Mean", "Sub", "Sum"})
"""Operators of which every input may depend on the record."""

_EITHER = frozenset({"MatMul", "Mul"})
"""Operators of which one input may, whichever it is."""

_FIRST = frozenset(
    {
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "DequantizeLinear",
        "Div",
        "Gemm",
        "GlobalAveragePool",
        "ReduceMean",
        "ReduceSum",
    }
)
"""Operators of which the first input may."""

AFFINE = MOVES | _JOINS | _EITHER | _FIRST
"""Every operator that this file knows."""


@dataclass(frozen=True)
class Site:
    """A node in its graph.

    Attributes:
        node: The node.
        varies: Of each input, whether it depends on the record.
        shapes: Of each of those that do, the shape for one record.
        constants: The inputs for a number of records: `None` for those that depend on the record or are absent; floats
            are float64.
    """

    node: Node
    varies: tuple[bool, ...]
    shapes: tuple[tuple[int, ...], ...]
    constants: Callable[[int], tuple[Tensor | None, ...]]


def read_affine(site: Site) -> Affine:
    """The affine function of a node.

    Raises:
        InputError: It is none, because two factors or a divisor depend on the record.
    """
    node = site.node
    moving = [place for place, varies in enumerate(site.varies) if varies]
    alone = len(moving) == 1 and (moving[0] == 0 or node.operator in _EITHER)
    if node.operator not in _JOINS and not alone:
        raise cannot(node, "of more than one tensor that depends on the record, or of one in that place")
    if node.get("transA", 0) or node.get("training_mode", 0):
        raise cannot(node, "with transA or training_mode")
    shape = site.shapes[0]
    rounds = 0 if node.operator in MOVES else _roundings(node, shape, site.constants(1))
    function = _function(site, node, lambda constant: constant)
    return Affine(function, _sizes(site), rounds, _adjoint(site))


_Change = Callable[[Tensor], Tensor]


def _function(
    site: Site, node: Node, changed: _Change, special: Mapping[int, _Change] | None = None
) -> Callable[..., tuple[Tensor, ...]]:
    """A node's function of the tensors that depend on the record, with its constants changed; some in their own way."""
    operator = OPERATORS[node.operator]

    def function(*data: Tensor) -> tuple[Tensor, ...]:
        given = iter(data)
        inputs = []
        for place, constant in enumerate(site.constants(len(data[0]))):
            change = (special or {}).get(place, changed)
            inputs.append(next(given) if site.varies[place] else None if constant is None else change(constant))
        result = operator(node, *inputs)
        return result[: len(node.output_types)] if isinstance(result, tuple) else (result,)

    return function


def _size(constant: Tensor) -> Tensor:
    return constant.abs() if constant.is_floating_point() else constant


def _opposed(constant: Tensor) -> Tensor:
    """Of what the operator subtracts: with this sign it adds its size."""
    return -constant.to(torch.float64).abs()


def _sizes(site: Site) -> Callable[..., tuple[Tensor, ...]]:
    """The function with sizes in place of constants, and sums in place of differences."""
    node = site.node
    if node.operator in ("Sub", "Neg"):
        return _function(site, replace(node, operator={"Sub": "Add", "Neg": "Identity"}[node.operator]), _size)
    if node.operator == "Gemm":
        scales = {name: abs(node.get(name, 1.0)) for name in ("alpha", "beta")}
        return _function(site, replace(node, attributes={**node.attributes, **scales}), _size)
    subtracted = {"BatchNormalization": 3, "DequantizeLinear": 2}.get(node.operator)
    return _function(site, node, _size, {} if subtracted is None else {subtracted: _opposed})


def _roundings(node: Node, shape: tuple[int, ...], constants: Sequence[Tensor | None]) -> int:
    """Products and sums on the way to one element, rounded up."""
    weight = constants[1] if len(constants) > 1 else None
    terms = len(constants)
    if node.operator in ("Gemm", "MatMul"):
        terms = max(shape)
    elif node.operator == "Conv" and weight is not None:
        terms = weight[0].numel()
    elif node.operator == "ConvTranspose" and weight is not None:
        terms = weight.numel() // weight.shape[1]
    elif node.operator == "AveragePool":
        terms = math.prod(node.attributes["kernel_shape"])
    elif node.operator in ("GlobalAveragePool", "ReduceMean", "ReduceSum"):
        terms = math.prod(shape)
    return terms + 3


def _adjoint(site: Site) -> Adjoint | None:
    """The transpose in closed form where a matrix product is all there is, which saves running it forwards."""
    node, weight = site.node, site.constants(1)[1] if len(site.varies) > 1 else None
    if node.operator not in ("Gemm", "MatMul") or not site.varies[0] or weight is None or weight.dim() != 2:
        return None
    matrix = weight if node.operator == "Gemm" and node.get("transB", 0) else weight.T
    scaled = node.get("alpha", 1.0) * matrix if node.operator == "Gemm" else matrix
    return lambda rows: rows @ scaled
