"""How much memory it takes to optimise a model of more than 2 GB, whose weights lie beside the graph.

    python benchmarks/large_model.py [--gigabytes 2.1] [--folder FOLDER]

Writes such a model (layers of 64 MiB with a bias that a pass merges, a scale that a pass folds into the next weights,
repeated and dead nodes), optimises it in a process of its own and prints the peak of that process's memory, mapped
files included, over the size of the weights. Above 1.5 times it leaves with 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 4096
MOST = 1.5
"""Times the size of the weights that the peak may be."""

_PASSES = "default"


def write_model(path: Path, size: float) -> int:
    """A chain of linear layers with weights of about `size` bytes in a file beside it; returns that size."""
    layers = max(1, round(size / (4 * WIDTH * WIDTH)))
    random = np.random.default_rng(0)
    nodes, tensors, current = [], [], "x"
    with path.with_suffix(".weights").open("wb") as file:
        for layer in range(layers):
            weights = random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(np.sqrt(WIDTH))
            tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": path.with_suffix(".weights").name, "offset": file.tell(), "length": weights.nbytes}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(weights.tobytes())
            bias = numpy_helper.from_array(random.standard_normal(WIDTH, dtype=np.float32), f"b{layer}")
            tensors += [tensor, bias]
            nodes.append(helper.make_node("MatMul", [current, f"w{layer}"], [f"m{layer}"]))
            nodes.append(helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"]))
            nodes.append(helper.make_node("Relu", [f"a{layer}"], [f"r{layer}"]))
            nodes.append(helper.make_node("Relu", [f"a{layer}"], [f"d{layer}"]))
            current = f"r{layer}"
            if layer == layers // 2:
                tensors.append(numpy_helper.from_array(np.full(1, 0.3, np.float32), "scale"))
                nodes.append(helper.make_node("Mul", [current, "scale"], ["scaled"]))
                current = "scaled"
        total = file.tell()
    nodes.append(helper.make_node("Identity", [current], ["y"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return total


def optimise(source: Path, target: Path) -> None:
    """What the measured process does."""
    from hauberk.optimisation import choose, optimise_file

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = optimise_file(source, target, passes=choose(_PASSES))
    print(
        json.dumps(
            {
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "imported": imported * 1024,
                "seconds": time.perf_counter() - started,
                "outcomes": {each.name: each.outcome for each in found.passes if each.outcome != "nothing to do"},
                "reasons": [each.reason for each in found.undone],
                "nodes": [found.source.nodes, found.result.nodes],
            }
        )
    )


def too_much(peak: int, weights: int) -> str:
    """What to say where a peak of memory is more than a model's weights allow; nothing where it is not."""
    return f"more than {MOST} times the weights" if peak > MOST * weights else ""


def main() -> int:
    """Write, optimise, print; fail where it took too much memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.1)
    parser.add_argument("--folder", type=Path, help="where to write; needs three times the size for a while")
    parser.add_argument("--measured", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measured:
        optimise(*options.measured)
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder, "large.onnx")
        size = write_model(source, options.gigabytes * 1e9)
        command = [sys.executable, __file__, "--measured", str(source), str(Path(folder, "out.onnx"))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
    print(f"weights {size / 1e9:.2f} GB, {found['nodes'][0]} nodes before and {found['nodes'][1]} after")
    print(f"passes: {', '.join(f'{name} {outcome}' for name, outcome in found['outcomes'].items())}")
    for reason in found["reasons"]:
        print(f"  {reason}")
    print(
        f"peak of resident memory {found['peak'] / 1e9:.2f} GB = {found['peak'] / size:.2f} times the weights", end=""
    )
    print(f" ({found['imported'] / 1e9:.2f} GB of it libraries), {found['seconds']:.0f} s")
    complaint = too_much(found["peak"], size)
    if complaint:
        print(complaint, file=sys.stderr)
    return 1 if complaint else 0


if __name__ == "__main__":
    sys.exit(main())
