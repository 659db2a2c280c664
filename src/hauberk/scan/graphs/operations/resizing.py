"""Images of another size: Resize and Upsample, by factors or by sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hauberk.scan.graphs.call import Call, axis_of, rule
from hauberk.scan.graphs.model import MOST_VALUES, Numbers
from hauberk.scan.graphs.operations.creation import sizes_of
from hauberk.scan.graphs.values import Tensor, UnboundedError


@rule("Resize", "Upsample")
@rule("Upsample", domain="com.microsoft.nchwc")
@rule("Resize", domain="com.ms.internal.nhwc")
def resize(call: Call) -> Sequence[Tensor]:
    """An image of another size: factors or sizes, as attributes or inputs."""
    source = call.input(0)
    call.operations = None
    if call.operator == "Upsample":
        factors = call.attribute("scales")
        if isinstance(factors, Numbers):
            scales, known = [float(each) for each in factors.values], True
        else:
            scales, known = _factors(call.input(1))
        return [_scaled(call, source, scales, known=known)]
    axes = call.integers("axes")
    axes = [axis_of(axis, source.rank) for axis in axes] if axes is not None else list(range(source.rank))
    scales_at, sizes_at = (1, 99) if call.version < 11 else (2, 3)
    if call.has(sizes_at) and call.input(sizes_at).elements:
        sizes, known = sizes_of(call.input(sizes_at))
        dims = list(source.shape)
        for axis, size in zip(axes, sizes, strict=False):
            dims[axis] = size
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if policy == "not_smaller":
            dims = _at_least(call, source, dict(zip(axes, sizes, strict=False)), known=known)
        exact = source.exact and known and policy == "stretch"
        result = call.result(source.element, dims, exact=exact)
    else:
        scales, known = _factors(call.input(scales_at))
        every = [1.0] * source.rank
        for axis, factor in zip(axes, scales, strict=False):
            every[axis] = factor
        result = _scaled(call, source, every, known=known)
    call.operations = 16.0 * result.elements
    call.scratch = _room_to_resize(call, source, result)
    return [result]


def _room_to_resize(call: Call, source: Tensor, result: Tensor) -> float:
    """Bytes that ONNX Runtime takes for where each place of an axis comes from, and for cubics, which it looks up."""
    places = float(sum(result.shape))
    if call.text("mode") != "cubic" or source.rank < 2:
        return 24 * places
    return 120 * places + 64.0 * source.shape[-2] * result.shape[-1]


def _at_least(call: Call, source: Tensor, sizes: dict[int, int], *, known: bool) -> list[int]:
    """Upper bounds of sizes under one factor for all axes, large enough for each of them to be as large as asked for.

    Raises:
        UnboundedError: The factor depends on data.
    """
    if not known or not source.exact:
        raise UnboundedError
    if not all(source.shape[axis] for axis in sizes):
        raise call.misfit("an image without pixels")
    factor = max((size / source.shape[axis] for axis, size in sizes.items()), default=1.0)
    return [int(size * factor) + 1 if axis in sizes else size for axis, size in enumerate(source.shape)]


def _factors(given: Tensor) -> tuple[list[float], bool]:
    bounds = given.bounds()
    if bounds is None or not given.exact or given.elements > MOST_VALUES:
        raise UnboundedError
    high = np.broadcast_to(bounds.high, given.shape).ravel().tolist()
    if not all(map(math.isfinite, high)):
        raise UnboundedError
    return [float(each) for each in high], given.known is not None


def _scaled(call: Call, source: Tensor, scales: Sequence[float], *, known: bool) -> Tensor:
    dims = [int(min(size * max(factor, 0), 1e30)) for size, factor in zip(source.shape, scales, strict=False)]
    return call.result(source.element, [*dims, *source.shape[len(dims) :]], exact=source.exact and known)
