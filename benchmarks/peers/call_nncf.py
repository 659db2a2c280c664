"""NNCF's post-training quantization with its defaults. Runs in its own environment, without hauberk.

    python call_nncf.py {onnx,openvino} IN.onnx RECORDS.npy OUT [--clear-shapes]

https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html:
`nncf.quantize(model, nncf.Dataset(records, transform))`, with `model_type=TRANSFORMER` where the graph has attention.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# Before either is imported: they report to Google Analytics, and take a missing consent file for consent.
os.environ["NNCF_CI"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import nncf  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402


def main(method: str, source: str, records: str, target: str, *, clear_shapes: bool) -> None:
    """Quantize one file into another."""
    model = onnx.load(source)
    if clear_shapes:
        del model.graph.value_info[:]
    name = model.graph.input[0].name
    kinds = {node.op_type for node in model.graph.node}
    options: dict[str, Any] = {"model_type": nncf.ModelType.TRANSFORMER} if "Softmax" in kinds else {}

    def feed(record: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        return {name: record[None]}

    dataset = nncf.Dataset(list(np.load(records)), feed)
    if method == "onnx":
        onnx.save(nncf.quantize(model, dataset, **options), target)
        return
    import openvino

    read = openvino.Core().read_model(model.SerializeToString())
    openvino.save_model(nncf.quantize(read, dataset, **options), target, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:5], clear_shapes="--clear-shapes" in sys.argv)
    print(json.dumps({"failure": ""}))
