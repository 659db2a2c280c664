"""Exported programs (`.pt2`): graphs of torch's own operators, read in an isolated process."""

from __future__ import annotations

import io

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_leaves

from hauberk.convert.inside import Feeds
from hauberk.convert.messages import Setup
from hauberk.errors import InputError, one_line
from hauberk.graph.model import IR_VERSION, OPSET


class Program:
    """An exported program whose inputs are tensors."""

    notes: tuple[str, ...] = ()

    def __init__(self, model: bytes) -> None:
        self.version = f"torch {torch.__version__.partition('+')[0]}"
        torch.set_num_threads(1)
        self._program = torch.export.load(io.BytesIO(model))
        self._module = self._program.module()
        taken = set(self._program.graph_signature.user_inputs)
        for node in self._program.graph.nodes:
            value = node.meta.get("val") if node.op == "placeholder" and node.name in taken else None
            if isinstance(value, torch.Tensor) and value.is_complex():
                raise InputError(f"input {node.name!r} takes complex numbers, which ONNX Runtime has no tensors of")

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """What torch's exporter makes of it; its own names of inputs are kept."""
        try:
            exported = torch.onnx.export(
                self._program, dynamo=True, external_data=False, opset_version=OPSET, verbose=False
            )
        except Exception as error:  # what it raises has no common base
            raise InputError(f"torch cannot export the program: {one_line(error.__cause__ or error)}") from error
        if exported is None:
            raise InputError("torch exported nothing")
        proto: onnx.ModelProto = exported.model_proto
        proto.ir_version = IR_VERSION
        return proto.SerializeToString(), ()

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """What the program answers; its guards refuse sizes that it was not exported for."""
        with torch.inference_mode():
            answer = self._module(*(torch.from_numpy(array) for array in feeds.values()))
        tensors = tree_leaves(answer)
        if not all(isinstance(each, torch.Tensor) for each in tensors):
            raise InputError("it returns something besides tensors")
        return [each.detach().numpy() for each in tensors]


def load(setup: Setup) -> Program:
    """Read an admitted program."""
    return Program(setup.model)
