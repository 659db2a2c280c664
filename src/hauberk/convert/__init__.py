"""Convert: models of other frameworks become ONNX or safetensors, and the result is compared with its source."""
