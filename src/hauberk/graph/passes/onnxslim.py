"""OnnxSlim (https://github.com/inisis/OnnxSlim) as a pass."""

from __future__ import annotations

from typing import ClassVar

from hauberk.graph.model import parse
from hauberk.graph.passes.foreign import ForeignPass


class Onnxslim(ForeignPass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="onnxslim"):
    """Shape inference, constant folding, fusion patterns and elimination of repetitions, by OnnxSlim."""

    package: ClassVar[str] = "onnxslim"

    def rewritten(self, model: bytes) -> bytes:
        """What `onnxslim.slim` returns."""
        import onnxslim  # noqa: PLC0415 - optional

        serialised: bytes = onnxslim.slim(parse(model)).SerializeToString(deterministic=True)
        return serialised
