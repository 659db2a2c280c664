"""ONNX Runtime's quantizers, called as its documentation shows them. Runs in its own environment, without hauberk.

    python call_onnxruntime.py {dynamic,static,static-per-channel} IN.onnx RECORDS.npy OUT.onnx [--clear-shapes]

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html: `quantize_dynamic(model, quantized)` with
its defaults; `quant_pre_process`, then `quantize_static(model, quantized, reader)` with its defaults (QDQ, unsigned
activations, signed weights).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Records(CalibrationDataReader):  # type: ignore[misc]
    """Calibration records, a few at a time."""

    def __init__(self, name: str, records: np.ndarray[Any, Any], batch: int = 32) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter(
            [{name: records[start : start + batch]} for start in range(0, len(records), batch)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next feed, or nothing."""
        return next(self._feeds, None)


def main(method: str, source: str, records: str, target: str, *, clear_shapes: bool) -> None:
    """Quantize one file into another."""
    with tempfile.TemporaryDirectory() as folder:
        if clear_shapes:
            source = _without_shapes(source, Path(folder, "cleared.onnx"))
        if method == "dynamic":
            quantize_dynamic(source, target)
            return
        prepared = str(Path(folder, "prepared.onnx"))
        quant_pre_process(source, prepared, skip_symbolic_shape=clear_shapes)
        if clear_shapes:
            prepared = _without_shapes(prepared, Path(folder, "prepared_cleared.onnx"))
        name = onnx.load(source).graph.input[0].name
        quantize_static(
            prepared,
            target,
            Records(name, np.load(records)),
            per_channel=method == "static-per-channel",
            weight_type=QuantType.QInt8,
        )


def _without_shapes(source: str, target: Path) -> str:
    model = onnx.load(source)
    del model.graph.value_info[:]
    onnx.save(model, target)
    return str(target)


if __name__ == "__main__":
    main(*sys.argv[1:5], clear_shapes="--clear-shapes" in sys.argv)
    print(json.dumps({"failure": ""}))
