"""Models that take tens of megabytes in different ways, each with an input `x` [batch, …] of float32."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from corpus.onnx_models import graph, model, node, numbers, value
from onnx import helper, numpy_helper

SIZE = 2048
LARGE = 4_000_000


def _random(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.random.default_rng(0).random(shape, np.float32), name)


def _plain(nodes: list[Any], shape: list[int | str], *weights: Any, opset: int = 18) -> Any:
    return model(nodes, inputs=[value("x", shape)], weights=weights, opset=opset)


def _layers() -> Any:
    names = ["x", "a", "b", "c", "y"]
    products = [node("MatMul", [one, f"w{one}"], other) for one, other in itertools.pairwise(names)]
    return _plain(products, ["n", SIZE], *(_random(f"w{one}", SIZE, SIZE) for one in names[:-1]))


def _convolutions() -> Any:
    nodes = [
        node("Conv", ["x", "k"], "a", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Conv", ["b", "l"], "c", pads=[1, 1, 1, 1]),
        node("Add", ["b", "c"], "d"),
        node("GlobalAveragePool", ["d"]),
    ]
    return _plain(nodes, ["n", 3, 512, 512], _random("k", 32, 3, 3, 3), _random("l", 32, 32, 3, 3))


def _attention() -> Any:
    nodes = [
        node("Transpose", ["x"], "t", perm=[0, 2, 1]),
        node("MatMul", ["x", "t"], "s"),
        node("Softmax", ["s"], "p"),
        node("MatMul", ["p", "x"]),
    ]
    return _plain(nodes, ["n", SIZE * 2, 64])


def _recurrent() -> Any:
    nodes = [node("LSTM", ["x", "w", "r"], "h", hidden_size=256), node("ReduceMean", ["h"], keepdims=0)]
    return _plain(nodes, [2000, 16, 128], _random("w", 1, 1024, 128), _random("r", 1, 1024, 256))


def _chain() -> Any:
    nodes = [
        node("Exp", ["x"], "a"),
        node("Sin", ["a"], "b"),
        node("Mul", ["a", "b"], "c"),
        node("Add", ["c", "x"]),
    ]
    return _plain(nodes, ["n", LARGE])


def _many_alive() -> Any:
    nodes = [node(kind, ["x"], f"m{index}") for index, kind in enumerate(("Exp", "Sin", "Cos", "Tanh"))]
    return _plain([*nodes, node("Concat", [f"m{index}" for index in range(4)], axis=1)], ["n", LARGE])


def _outer() -> Any:
    nodes = [node("Unsqueeze", ["x", "one"], "a"), node("Unsqueeze", ["x", "two"], "b"), node("Mul", ["a", "b"])]
    return _plain(nodes, ["n", 4096], numbers("one", 1), numbers("two", 2))


def _tiled() -> Any:
    return _plain([node("Tile", ["x", "r"])], ["n", 1000], numbers("r", 1, 20_000))


def _resized() -> Any:
    scales = numpy_helper.from_array(np.array([1, 1, 8, 8], np.float32), "s")
    return _plain([node("Resize", ["x", "", "s"], mode="nearest")], ["n", 8, 128, 128], scales)


def _filled() -> Any:
    nodes = [node("Shape", ["x"], "s"), node("Mul", ["s", "m"], "t"), node("ConstantOfShape", ["t"])]
    return _plain(nodes, ["n", 1000], numbers("m", 1, 20_000))


def _gathered() -> Any:
    indices = numpy_helper.from_array(np.arange(200_000, dtype=np.int64) % 1000, "i")
    nodes = [node("Gather", ["w", "i"], "g"), node("Add", ["g", "x"])]
    return _plain(nodes, ["n", 128], _random("w", 1000, 128), indices)


def _looped() -> Any:
    body = graph(
        [node("Identity", ["c"], "d"), node("Exp", ["s_in"], "s_out"), node("Sin", ["s_out"], "part")],
        [value("i", [], 7), value("c", [], 9), value("s_in", None)],
        [value("d", [], 9), value("s_out", None), value("part", None)],
    )
    count = numpy_helper.from_array(np.array(20, np.int64), "n")
    return _plain([node("Loop", ["n", "", "x"], "e", "y", body=body)], ["b", 500_000], count)


def _products_of_halves() -> Any:
    nodes = [
        node("Cast", ["x"], "h", to=helper.TensorProto.FLOAT16),
        node("Concat", ["h", "h"], "d", axis=0),
        node("Cast", ["d"], to=helper.TensorProto.FLOAT),
    ]
    return _plain(nodes, ["n", LARGE])


def _channels() -> Any:
    return _plain([node("LRN", ["x"], size=5)], ["n", 64, 256, 256])


def _transformed() -> Any:
    """A length for which a transform is done at the next power of two above twice of it."""
    return _plain([node("Unsqueeze", ["x", "one"], "s"), node("DFT", ["s"])], ["n", 600_011], numbers("one", 2))


MODELS: dict[str, Callable[[], Any]] = {
    "layers": _layers,
    "convolutions": _convolutions,
    "attention": _attention,
    "recurrent": _recurrent,
    "chain": _chain,
    "many-alive": _many_alive,
    "outer": _outer,
    "tiled": _tiled,
    "resized": _resized,
    "filled": _filled,
    "gathered": _gathered,
    "looped": _looped,
    "channels": _channels,
    "transformed": _transformed,
    "halves": _products_of_halves,
}
"""What makes each, by its name."""
