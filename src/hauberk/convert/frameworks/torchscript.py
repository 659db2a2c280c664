"""TorchScript archives: programs. They are read and run here, in an isolated process, and nowhere else."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.convert.inside import Feeds
from hauberk.convert.messages import Setup
from hauberk.errors import InputError
from hauberk.graph.export import traced
from hauberk.graph.model import spec_of

_MOST_PARAMETERS = 200


class Script:
    """A scripted or traced module with one input of floats, records first."""

    notes: tuple[str, ...] = ("a TorchScript program, read and run in an isolated process only",)

    def __init__(self, model: bytes) -> None:
        self.version = f"torch {torch.__version__.partition('+')[0]}"
        torch.set_num_threads(1)
        self._module = torch.jit.load(io.BytesIO(model), map_location="cpu").eval()  # type: ignore[no-untyped-call]

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """What torch's older exporter makes of the program; the newer one takes no TorchScript."""
        shape = self._record_shape()
        proto = traced(self._module, torch.zeros(2, *shape), "torch cannot export the program")
        spec_of(proto.graph.input[0])
        del proto.graph.value_info[:]
        guessed = (
            f"a record is taken to be {list(shape)}, the first shape that it runs on of those that its weights suggest;"
            " where it is another, export the model with torch.export"
        )
        return proto.SerializeToString(), (
            "exported by torch's older exporter, which is the one for TorchScript",
            guessed,
        )

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """What the program answers."""
        (features,) = feeds.values()
        with torch.inference_mode():
            answer = self._module(torch.from_numpy(features))
        if not isinstance(answer, torch.Tensor):
            raise InputError(f"it returns {type(answer).__name__}; one tensor is needed")
        return [answer.numpy()]

    def _record_shape(self) -> tuple[int, ...]:
        """The shape of a record: TorchScript declares none, so the first weights tell what is tried.

        Raises:
            InputError: It takes or gives something else than one tensor, or none of what was tried runs.
        """
        schema = self._module.forward.schema
        for values, what in ((schema.arguments[1:], "takes"), (schema.returns, "gives")):
            if [str(each.type) for each in values] != ["Tensor"]:
                kinds = ", ".join(str(each.type)[:40] for each in values[:5]) or "nothing"
                raise InputError(f"the program {what} {kinds}; one tensor is converted: export it with torch.export")
        weights = [each for _, each in zip(range(_MOST_PARAMETERS), self._module.parameters(), strict=False)]
        tried: list[tuple[int, ...]] = [(each.shape[1],) for each in weights if each.ndim == 2]
        tried += [(each.shape[1], size, size) for each in weights if each.ndim == 4 for size in (8, 28, 32, 64, 224)]
        tried += [(each.shape[1], length) for each in weights if each.ndim == 3 for length in (16, 64, 256)]
        for shape in dict.fromkeys(tried):
            if self._takes(shape):
                return shape
        raise InputError(
            "cannot tell what its records look like: it runs on none of the shapes that its weights suggest"
        )

    def _takes(self, shape: tuple[int, ...]) -> bool:
        try:
            self.answer({"features": np.zeros((2, *shape), dtype=np.float32)})
        except Exception:  # noqa: BLE001 - a program raises anything on a shape that is not its own
            return False
        return True


def load(setup: Setup) -> Script:
    """Read an archive that the scan found nothing in but code."""
    return Script(setup.model)
