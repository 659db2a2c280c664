"""Engines that run graphs, as sessions with limits."""

from hauberk.backends.onnx_runtime import FixedBatch, Session
from hauberk.backends.options import GraphOptimization, LogSeverity, SessionOptions

__all__ = ["FixedBatch", "GraphOptimization", "LogSeverity", "Session", "SessionOptions"]
