"""What every back end offers, so that whoever runs or times a model need not know which one does."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.tensors import Signature, TensorSpec


class FixedRun(Protocol):
    """One model, one number of records, the same memory for every run. Not for two threads at once.

    Attributes:
        inputs: One array an input, of its dtype and shape; write them before `run`.
        outputs: One array an output; the next run overwrites it.
    """

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]

    def run(self) -> None:
        """Compute `outputs` from `inputs`."""


class RunnableSession(Protocol):
    """A model, loaded and ready to run; a context manager that closes it. Threads may share it.

    Attributes:
        signature: Inputs and outputs of the graph.
    """

    signature: Signature

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the graph: one array an input, fresh arrays, one an output."""

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map features float32 [N, *shape] to logits float32 [N, K], for a graph with one input and one output.

        Raises:
            InputError: The graph has more inputs or outputs, or the batch does not fit.
            LimitError: The run took too long or needed more memory than allowed.
            HauberkError: The session is closed.
        """
        logits: NDArray[np.float32] = self.run({single_input(self.signature): batch})[0]
        return logits

    def fixed_batch(self, records: int) -> FixedRun:
        """Buffers for runs of always the same number of records, the fastest way to call this back end."""

    def close(self) -> None:
        """Free the model; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def buffer(spec: TensorSpec, records: int) -> NDArray[Any]:
    """Zeros of the shape that a tensor has for so many records.

    Raises:
        InputError: It is free in another dimension than the first, or fixed to another number of records.
    """
    first, rest = spec.shape[:1], spec.shape[1:]
    sizes = [size for size in rest if isinstance(size, int)]
    if len(sizes) != len(rest) or not first or (isinstance(first[0], int) and first[0] != records):
        raise InputError(f"tensor {spec.name!r} has shape {spec.shape}; a fixed batch needs [records, fixed sizes …]")
    return np.zeros((records, *sizes), dtype=spec.dtype)


def single_input(signature: Signature) -> str:
    """Name of the input of a graph that has one input and one output, which is what `predict` needs.

    Raises:
        InputError: It has more of either.
    """
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise InputError("predict needs a graph with one input and one output; use run")
    return signature.inputs[0].name
