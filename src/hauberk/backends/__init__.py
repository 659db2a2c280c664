"""Engines that run graphs, as sessions with limits."""

from hauberk.backends.interface import FixedRun, RunnableSession
from hauberk.backends.onnx_runtime import FixedBatch, Session
from hauberk.backends.openvino import OpenVinoFixedBatch, OpenVinoSession
from hauberk.backends.options import (
    GraphOptimization,
    LogSeverity,
    OpenVinoOptions,
    Precision,
    Provider,
    SessionOptions,
)

__all__ = [
    "FixedBatch",
    "FixedRun",
    "GraphOptimization",
    "LogSeverity",
    "OpenVinoFixedBatch",
    "OpenVinoOptions",
    "OpenVinoSession",
    "Precision",
    "Provider",
    "RunnableSession",
    "Session",
    "SessionOptions",
]
