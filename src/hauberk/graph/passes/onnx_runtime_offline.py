"""ONNX Runtime's own graph optimisations, done once and saved, as a pass."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar, Literal

import onnx_ir as ir
import onnxruntime
from onnx_ir.passes import common

from hauberk.graph.model import parse
from hauberk.graph.passes.foreign import ForeignPass


class OnnxRuntimeOffline(ForeignPass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="onnxruntime-offline"):
    """What ONNX Runtime does to a graph whenever it loads it, done once.

    It spares the work at every start and nothing else. The result has ONNX Runtime's own operators (`com.microsoft`)
    and no longer runs elsewhere. Its highest level is not offered: that one writes layouts for one processor.

    Attributes:
        level: "basic" keeps to standard operators, "extended" fuses into ONNX Runtime's own.
    """

    package: ClassVar[str] = "onnxruntime"
    level: Literal["basic", "extended"] = "extended"

    def rewritten(self, model: bytes) -> bytes:
        """The optimised model that ONNX Runtime saves."""
        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = (
            levels.ORT_ENABLE_BASIC if self.level == "basic" else levels.ORT_ENABLE_EXTENDED
        )
        options.log_severity_level = 4
        with tempfile.TemporaryDirectory(prefix="hauberk-") as folder:
            options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            written = ir.serde.deserialize_model(parse(Path(folder, "optimised.onnx").read_bytes()))
        common.RemoveUnusedOpsetsPass()(written)  # it declares every domain that it knows
        serialised: bytes = ir.serde.serialize_model(written).SerializeToString(deterministic=True)
        return serialised
