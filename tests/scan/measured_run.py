"""What ONNX Runtime really takes to load and run a model, measured in this process, for one record.

`python measured_run.py SMALL MODEL` runs a small model first, and prints how many bytes the process grew at its peak
while MODEL was loaded and run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


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
        shapes = {
            each.name: [size if isinstance(size, int) else 1 for size in each.shape] for each in session.get_inputs()
        }
        results = session.run(None, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    sys.stdout.write(f"{_status('VmHWM') - before} {len(results)}\n")


if __name__ == "__main__":
    main()
