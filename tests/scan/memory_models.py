"""Models that take tens of megabytes in different ways, and what ONNX Runtime really takes to load and run them.

Run as a program, it measures a model in this process, for one record: `python memory_models.py SMALL MODEL` runs a small
one first, and prints how many bytes the process grew at its peak while MODEL was loaded and run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 2048
LARGE = 4_000_000


def models() -> dict[str, Callable[[], Any]]:
    """A dozen models by name, each with an input `x` [batch, …] of float32."""
    from corpus.onnx_models import graph, model, node, numbers, value
    from onnx import helper, numpy_helper

    def random(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(np.random.default_rng(0).random(shape, np.float32), name)

    def plain(nodes: list[Any], shape: list[int | str], *weights: Any, opset: int = 18) -> Any:
        return model(nodes, inputs=[value("x", shape)], weights=weights, opset=opset)

    def layers() -> Any:
        names = ["x", "a", "b", "c", "y"]
        products = [node("MatMul", [one, f"w{one}"], other) for one, other in zip(names, names[1:], strict=False)]
        return plain(products, ["n", SIZE], *(random(f"w{one}", SIZE, SIZE) for one in names[:-1]))

    def convolutions() -> Any:
        nodes = [
            node("Conv", ["x", "k"], "a", pads=[1, 1, 1, 1]),
            node("Relu", ["a"], "b"),
            node("Conv", ["b", "l"], "c", pads=[1, 1, 1, 1]),
            node("Add", ["b", "c"], "d"),
            node("GlobalAveragePool", ["d"]),
        ]
        return plain(nodes, ["n", 3, 512, 512], random("k", 32, 3, 3, 3), random("l", 32, 32, 3, 3))

    def attention() -> Any:
        nodes = [
            node("Transpose", ["x"], "t", perm=[0, 2, 1]),
            node("MatMul", ["x", "t"], "s"),
            node("Softmax", ["s"], "p"),
            node("MatMul", ["p", "x"]),
        ]
        return plain(nodes, ["n", SIZE * 2, 64])

    def recurrent() -> Any:
        nodes = [node("LSTM", ["x", "w", "r"], "h", hidden_size=256), node("ReduceMean", ["h"], keepdims=0)]
        return plain(nodes, [2000, 16, 128], random("w", 1, 1024, 128), random("r", 1, 1024, 256))

    def chain() -> Any:
        nodes = [node("Exp", ["x"], "a"), node("Sin", ["a"], "b"), node("Mul", ["a", "b"], "c"), node("Add", ["c", "x"])]
        return plain(nodes, ["n", LARGE])

    def many_alive() -> Any:
        nodes = [node(kind, ["x"], f"m{index}") for index, kind in enumerate(("Exp", "Sin", "Cos", "Tanh"))]
        return plain([*nodes, node("Concat", [f"m{index}" for index in range(4)], axis=1)], ["n", LARGE])

    def outer() -> Any:
        nodes = [node("Unsqueeze", ["x", "one"], "a"), node("Unsqueeze", ["x", "two"], "b"), node("Mul", ["a", "b"])]
        return plain(nodes, ["n", 4096], numbers("one", 1), numbers("two", 2))

    def tiled() -> Any:
        return plain([node("Tile", ["x", "r"])], ["n", 1000], numbers("r", 1, 20_000))

    def resized() -> Any:
        scales = numpy_helper.from_array(np.array([1, 1, 8, 8], np.float32), "s")
        return plain([node("Resize", ["x", "", "s"], mode="nearest")], ["n", 8, 128, 128], scales)

    def filled() -> Any:
        nodes = [node("Shape", ["x"], "s"), node("Mul", ["s", "m"], "t"), node("ConstantOfShape", ["t"])]
        return plain(nodes, ["n", 1000], numbers("m", 1, 20_000))

    def gathered() -> Any:
        indices = numpy_helper.from_array(np.arange(200_000, dtype=np.int64) % 1000, "i")
        nodes = [node("Gather", ["w", "i"], "g"), node("Add", ["g", "x"])]
        return plain(nodes, ["n", 128], random("w", 1000, 128), indices)

    def looped() -> Any:
        body = graph(
            [node("Identity", ["c"], "d"), node("Exp", ["s_in"], "s_out"), node("Sin", ["s_out"], "part")],
            [value("i", [], 7), value("c", [], 9), value("s_in", None)],
            [value("d", [], 9), value("s_out", None), value("part", None)],
        )
        count = numpy_helper.from_array(np.array(20, np.int64), "n")
        return plain([node("Loop", ["n", "", "x"], "e", "y", body=body)], ["b", 500_000], count)

    def products_of_halves() -> Any:
        nodes = [
            node("Cast", ["x"], "h", to=helper.TensorProto.FLOAT16),
            node("Concat", ["h", "h"], "d", axis=0),
            node("Cast", ["d"], to=helper.TensorProto.FLOAT),
        ]
        return plain(nodes, ["n", LARGE])

    return {
        "layers": layers,
        "convolutions": convolutions,
        "attention": attention,
        "recurrent": recurrent,
        "chain": chain,
        "many-alive": many_alive,
        "outer": outer,
        "tiled": tiled,
        "resized": resized,
        "filled": filled,
        "gathered": gathered,
        "looped": looped,
        "halves": products_of_halves,
    }


def _status(name: str) -> int:
    """Bytes that the kernel counts for this process: VmRSS now, VmHWM at most since it was told to forget."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main() -> None:
    """Measure one model, after another one has brought in what any session needs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    before = 0
    for path in map(Path, sys.argv[1:3]):
        # The peak that the kernel keeps begins with what the parent took.
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        shapes = {each.name: [size if isinstance(size, int) else 1 for size in each.shape] for each in session.get_inputs()}
        results = session.run(None, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    print(_status("VmHWM") - before, len(results))


if __name__ == "__main__":
    main()
