"""The twin: an ONNX graph as a differentiable torch module, equal to what ONNX Runtime computes."""

from hauberk.graph.twin.module import Twin

__all__ = ["Twin"]
