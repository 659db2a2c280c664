"""Mixed precision: int8 for most layers, float for those that quantization hurts most, found by measuring."""

from __future__ import annotations

from typing import ClassVar

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.quantize.sensitivity import Bench
from hauberk.compress.quantize.static import QuantizeStatic
from hauberk.errors import InputError
from hauberk.recipe import Context, Contract, Lossy, Step


class QuantizeMixed(Step, frozen=True, kw_only=True, tag="quantize-mixed"):
    """Static INT8 with layers left in float: named ones, or as many of the most sensitive as asked for.

    Attributes:
        sensitive: How many of the most sensitive layers stay in float (`sensitivity.Bench.rank` measures which).
        quantization: How the others are quantized; `quantization.keep_float` names layers that stay in float besides.

    Raises:
        InputError: Neither a number above 0 nor a name.
    """

    sensitive: int = 0
    quantization: QuantizeStatic = QuantizeStatic()

    CONTRACT: ClassVar[Lossy] = QuantizeStatic.CONTRACT

    def __post_init__(self) -> None:
        if self.sensitive < 0 or not (self.sensitive or self.quantization.keep_float):
            raise InputError(
                f"{self.name}: nothing stays in float; ask for 1 or more of the most sensitive layers, or name some"
                " in keep_float (with none, it is quantize-static)"
            )

    @property
    def contract(self) -> Contract:
        """As of static INT8."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """What stays in float whatever is measured; the measured layers are those without codes in the result."""
        return self.quantization.notes(artifact)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the graph with its insensitive layers in int8.

        Raises:
            InputError: As `QuantizeStatic.apply`, or no layer would be quantized.
        """
        if not self.sensitive:
            return self.quantization.apply(artifact, context)
        bench = Bench(artifact, context, self.quantization, self.name)
        if self.sensitive >= len(bench.layers):
            raise InputError(
                f"{self.name}: {self.sensitive} of {len(bench.layers)} layers are to stay in float; nothing to quantize"
            )
        return bench.quantized(keep_float=[entry.layer for entry in bench.rank()[: self.sensitive]])
