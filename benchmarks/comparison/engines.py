"""Running any of the models in one process: the same two questions to each engine, asked the fastest way it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comparison.results import OPENVINO_BF16, ORT, TORCH
from hauberk.backends import OpenVinoOptions, OpenVinoSession, Precision, RunnableSession, Session, SessionOptions
from hauberk.backends.openvino import library

Features = NDArray[np.float32]

_VALUES = 1 << 22  # numbers in one chunk of records: 27 images of 3×224×224


class Engine:
    """A model that is ready to answer, with one thread.

    Args:
        engine: One of the names in `results`.
        model: The file, or the torch module for eager PyTorch.
    """

    def __init__(self, engine: str, model: Path | torch.nn.Module) -> None:
        self._predict: Callable[[Features], Features]
        self._fixed: Callable[[Features], Callable[[], object]]
        if isinstance(model, torch.nn.Module):
            assert engine == TORCH
            self._predict, self._fixed = _eager(model)
        elif model.suffix == ".xml":
            self._predict, self._fixed = _intermediate(model, bfloat16=engine == OPENVINO_BF16)
        else:
            session = _session(engine, model.read_bytes())
            self._predict, self._fixed = session.predict, lambda features: _preset(session, features)

    def answers(self, features: Features) -> Features:
        """Logits float32 [N, K] of features float32 [N, *shape], in chunks."""
        rows = max(1, min(4096, _VALUES // max(1, int(np.prod(features.shape[1:])))))
        parts = [self._predict(features[start : start + rows]) for start in range(0, len(features), rows)]
        return np.concatenate(parts)

    def call(self, features: Features) -> Callable[[], object]:
        """A call that answers always these records, from memory that is in place."""
        return self._fixed(features)


def _session(engine: str, model: bytes) -> RunnableSession:
    if engine == ORT:
        # Files of peers declare shapes that the strict check refuses; no model here comes from a stranger.
        return Session(model, SessionOptions(time_limit=None, validate=False))
    precision: Precision = "bfloat16" if engine == OPENVINO_BF16 else "float32"
    return OpenVinoSession(model, OpenVinoOptions(precision=precision, validate=False))


def _preset(session: RunnableSession, features: Features) -> Callable[[], object]:
    batch = session.fixed_batch(len(features))
    (array,) = batch.inputs.values()
    array[...] = features
    return batch.run


def _eager(
    module: torch.nn.Module,
) -> tuple[Callable[[Features], Features], Callable[[Features], Callable[[], object]]]:
    def predict(features: Features) -> Features:
        with torch.inference_mode():
            logits: Features = module(torch.from_numpy(features)).numpy()
        return logits

    def fixed(features: Features) -> Callable[[], object]:
        tensor = torch.from_numpy(features.copy())

        @torch.inference_mode()
        def call() -> object:
            return module(tensor)

        return call

    return predict, fixed


def _intermediate(
    model: Path, *, bfloat16: bool
) -> tuple[Callable[[Features], Features], Callable[[Features], Callable[[], object]]]:
    """OpenVINO's own format, which NNCF writes, under the settings of `OpenVinoSession`."""
    openvino = library()
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    free = core.compile_model(core.read_model(model), "CPU", settings)

    def predict(features: Features) -> Features:
        (logits,) = free([features]).values()
        return np.array(logits)

    def fixed(features: Features) -> Callable[[], object]:
        read = core.read_model(model)
        read.reshape(list(features.shape))
        request: Any = core.compile_model(read, "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(features.copy(), shared_memory=False))
        return lambda: request.infer(share_inputs=True, share_outputs=True, decode_strings=False)

    return predict, fixed
