"""onnxslim with its defaults. Runs in its own environment, without hauberk.

    python call_onnxslim.py slim IN.onnx RECORDS.npy OUT.onnx

https://github.com/inisis/OnnxSlim: `onnxslim.slim(model)`.
"""

from __future__ import annotations

import json
import sys

import onnx
import onnxslim

if __name__ == "__main__":
    _, _, source, _, target = sys.argv[:5]
    onnx.save(onnxslim.slim(onnx.load(source)), target)
    print(json.dumps({"failure": ""}))
