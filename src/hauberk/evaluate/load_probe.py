"""Load one model in a fresh process and print what that cost: `python -m hauberk.evaluate.load_probe MODEL.onnx`.

It imports the field floor only, because that is what production loads a model with.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.backends import Session
from hauberk.tensors import TensorSpec


class Cost(msgspec.Struct, frozen=True):
    """What loading a model and answering one record cost: seconds, and bytes of peak memory above the imports'."""

    seconds: float
    memory: int


def measure(path: Path) -> Cost:
    """Load the model, answer one record of zeros, and look at the clock and at the peak memory.

    The peak includes what ONNX Runtime sets up once a process. It is the resident set (`VmHWM` of
    `/proc/self/status`, proc(5)), after writing 5 to `/proc/self/clear_refs` has set the peak back.
    """
    with suppress(OSError):  # where it is forbidden, the peak of the imports hides as much of the model's
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak_memory()
    started = time.perf_counter()
    session = Session(path.read_bytes())
    session.run({spec.name: _zeros(spec) for spec in session.signature.inputs})
    seconds = time.perf_counter() - started
    return Cost(seconds=seconds, memory=max(0, _peak_memory() - before))


def _zeros(spec: TensorSpec) -> NDArray[np.generic]:
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    return np.zeros(shape, dtype=spec.dtype)


def _peak_memory() -> int:
    """Peak resident set of this process in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


def main() -> None:
    """Print the cost as one line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(measure(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
