"""ONNX Simplifier (https://github.com/daquexian/onnx-simplifier) as a pass."""

from __future__ import annotations

from typing import ClassVar

from hauberk.errors import ContractError
from hauberk.graph.model import parse
from hauberk.graph.passes.foreign import ForeignPass


class Onnxsim(ForeignPass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="onnxsim"):
    """Constant folding and the fusions of onnx-optimizer, by onnxsim."""

    package: ClassVar[str] = "onnxsim"

    def rewritten(self, model: bytes) -> bytes:
        """What `onnxsim.simplify` returns.

        Raises:
            ContractError: onnxsim's own check found a difference.
        """
        import onnxsim  # noqa: PLC0415 - optional

        simplified, same = onnxsim.simplify(parse(model))
        if not same:
            raise ContractError("onnxsim's own check found that its result answers otherwise")
        serialised: bytes = simplified.SerializeToString(deterministic=True)
        return serialised
