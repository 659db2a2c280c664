"""Dynamic INT8: weights int8, activations quantized anew for every batch from the range found in it.

No calibration, no drift of ranges; the price is finding the range at run time. It wins where matrix products dominate
(wide layers) and loses on small ones. Only matrix products are touched: ONNX Runtime has no fast kernel for
convolutions of this kind.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import onnx

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.errors import InputError
from hauberk.graph.model import one_line
from hauberk.recipe import Context, Contract, Lossy, Step

# ONNX Runtime's quantizer asks for its own preparation unless a model says that it had it; here it has nothing to
# prepare (constants are lifted, shapes are re-inferred by the quantizer itself).
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


class QuantizeDynamic(Step, frozen=True, kw_only=True, tag="quantize-dynamic"):
    """Quantize weights to int8 now and activations to uint8 at run time, with ONNX Runtime's quantizer.

    Attributes:
        per_channel: One weight scale an output channel instead of one a matrix.
        reduced_range: Weights in 7 bits, for x86 processors without VNNI, whose kernels saturate int16 sums of 8-bit
            products.
    """

    per_channel: bool = True
    reduced_range: bool = False

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.98, rms=0.1)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 98 % of real records, logits within 10 % of their root mean square."""
        return self.CONTRACT

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - needs no records
        """Return the graph with its linear layers in int8.

        Raises:
            InputError: Not a core, already quantized, without linear layers of constant float32 weights, or ONNX
                Runtime's quantizer cannot handle the graph.
        """
        core = read_core(artifact, self.name)
        core.require_linear_layers()
        # Exporters leave shapes of one fixed batch there, and the quantizer's shape inference trips over them.
        del core.model.graph.value_info[:]
        onnx.helper.set_model_props(core.model, dict([_PREPARED]))
        return core.finished(self._quantize(core.model))

    def _quantize(self, model: onnx.ModelProto) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - slow to import

        with tempfile.TemporaryDirectory(prefix="hauberk-") as folder, _quiet_root_logger():
            path = Path(folder) / "quantized.onnx"
            try:
                quantize_dynamic(
                    model,
                    path,
                    op_types_to_quantize=["MatMul"],  # the quantizer first turns every Gemm into MatMul and Add
                    per_channel=self.per_channel,
                    reduce_range=self.reduced_range,
                    weight_type=QuantType.QInt8,
                    extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
                )
            except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
                raise InputError(f"{self.name}: ONNX Runtime's quantizer fails: {one_line(error)}") from error
            return onnx.load_model(path)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep the quantizer's remarks off the root logger, and keep it from installing a handler there."""
    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_not_from_the_quantizer)
    try:
        yield
    finally:
        root.removeFilter(_not_from_the_quantizer)
        root.removeHandler(handler)


def _not_from_the_quantizer(record: logging.LogRecord) -> bool:
    return Path(record.pathname).parent.name not in ("quantization", "operators")
