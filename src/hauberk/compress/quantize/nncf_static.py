"""Static INT8 by NNCF, Intel's compression framework: a candidate beside our own (`static.py`).

NNCF decides by itself what is coded, corrects biases, and returns QDQ too. It reports its use to a statistics service
unless told not to; here it is imported without the package that does so, and one that is imported already is silenced.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import onnx

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.compress.notes import stay_in_float
from hauberk.compress.quantize.layers import find_layers, require_finite, with_constant_weights
from hauberk.errors import InputError, MissingExtraError, one_line
from hauberk.recipe import Context, Contract, Lossy, Step

_import_lock = threading.Lock()
_REPORTER = "openvino_telemetry"
_LEFT = {
    "Einsum": "NNCF has no rule for it",
    "GRU": "NNCF codes no recurrent layers",
    "LSTM": "NNCF codes no recurrent layers",
    "RNN": "NNCF codes no recurrent layers",
}


class QuantizeNncf(Step, frozen=True, kw_only=True, tag="quantize-nncf"):
    """Quantize to int8 with NNCF's post-training quantization; needs the extra `nncf`.

    Attributes:
        preset: "mixed" (activations with a zero point) or "performance" (symmetric activations).
        records: The most calibration records that are used, the first ones.
        fast_bias_correction: Correct biases from statistics instead of by running the graph layer by layer.
        transformer: Tell NNCF that the graph is a Transformer.
    """

    preset: Literal["mixed", "performance"] = "mixed"
    records: int = 300
    fast_bias_correction: bool = True
    transformer: bool = False

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.98, rms=0.1)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 98 % of real records, logits within 10 % of their root mean square."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """What NNCF leaves in float, and why."""
        graph = read_core(with_constant_weights(artifact), self.name).model.graph
        attention = {name for node in graph.node if node.op_type == "Softmax" for name in node.output}

        def why(node: onnx.NodeProto) -> str:
            if node.op_type in _LEFT:
                return _LEFT[node.op_type]
            if self.transformer and node.op_type == "MatMul" and node.input[0] in attention:
                return "NNCF codes no weights of attention in a Transformer"
            return ""

        return stay_in_float(graph, why)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return NNCF's graph.

        Raises:
            MissingExtraError: NNCF is not installed.
            InputError: Not a core, already quantized, without layers of constant float32 weights, calibration records
                that do not fit, or NNCF fails on the graph.
        """
        core = read_core(with_constant_weights(artifact), self.name)
        core.require_float()
        records = core.calibration(context)[: self.records]
        model = core.model
        layers = find_layers(model.graph) or core.linear_layers()
        if not layers:
            raise InputError(f"{self.name}: nothing to quantize, no Gemm, MatMul or Conv has constant float32 weights")
        require_finite(model.graph, find_layers(model.graph), self.name)
        del model.graph.value_info[:]
        nncf = library()
        source = model.graph.input[0].name
        with _quiet():
            try:
                quantized = nncf.quantize(
                    model,
                    nncf.Dataset([{source: records[index : index + 1]} for index in range(len(records))]),
                    preset=getattr(nncf.QuantizationPreset, self.preset.upper()),
                    subset_size=len(records),
                    fast_bias_correction=self.fast_bias_correction,
                    model_type=nncf.ModelType.TRANSFORMER if self.transformer else None,
                )
            except Exception as error:  # its errors, onnx's and ONNX Runtime's share no base but Exception
                raise InputError(f"{self.name}: NNCF fails on this graph: {one_line(error)}") from error
        if not isinstance(quantized, onnx.ModelProto):
            raise InputError(f"{self.name}: NNCF returned no ONNX model but {type(quantized).__name__}")
        return core.finished(quantized)


def library() -> Any:
    """The `nncf` package, without its reporter.

    Raises:
        MissingExtraError: It is not installed.
    """
    with _import_lock:
        silenced = _REPORTER not in sys.modules
        if silenced:
            # NNCF has a stand-in that does nothing for when this package is missing. None in this place is how Python
            # says that a module cannot be imported.
            sys.modules[_REPORTER] = None  # type: ignore[assignment]
        try:
            package = importlib.import_module("nncf")
            wrapper = importlib.import_module("nncf.telemetry.wrapper")
        except ImportError as error:
            raise MissingExtraError(
                f"NNCF is not installed ({one_line(error)}); install it with pip install 'hauberk[nncf]'"
            ) from error
        finally:
            if silenced:
                del sys.modules[_REPORTER]
        if isinstance(wrapper.telemetry, wrapper.NNCFTelemetry):  # somebody else imported NNCF before us
            wrapper.telemetry._impl = _Silence()  # noqa: SLF001 - there is no public way
        return package


class _Silence:
    """Takes every report and sends none."""

    def start_session(self, *_: object, **__: object) -> None:
        """Send nothing."""

    def send_event(self, *_: object, **__: object) -> None:
        """Send nothing."""

    def end_session(self, *_: object, **__: object) -> None:
        """Send nothing."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's progress bars and remarks off the terminal."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            yield
    finally:
        logger.setLevel(level)
