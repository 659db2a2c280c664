"""Models of TensorFlow Lite that ask for more than one subgraph, or one operator, shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, UNSAFE, Case
from corpus.frameworks_graphs import TfLite
from corpus.messages import written

COSTS = "https://cwe.mitre.org/data/definitions/400.html"
_IF, _NEGATIVE = 118, 92
_TRUTH, _FLOAT = 6, 0


class _Nested(TfLite):
    """Subgraphs that hand a tensor on to the next or to the last one, each with its own memory for it.

    Args:
        depth: How many call another one.
        elements: Of the tensor, each of 4 bytes.
    """

    def __init__(self, builder: Any, *, depth: int, elements: int) -> None:
        super().__init__(builder)
        self.depth, self.elements = depth, elements

    def build(self) -> int:
        """The whole model."""
        codes = [self._table((0, "Int8", code), (3, "Int32", code)) for code in (_IF, _NEGATIVE)]
        graphs = [self._nested(number) for number in range(self.depth + 1)]
        parts = {1: self._tables(codes), 2: self._tables(graphs), 4: self._tables([self._table()])}
        return self._table((0, "Uint32", 3), *((slot, "UOffsetTRelative", part) for slot, part in parts.items()))

    def _nested(self, number: int) -> int:
        tensors = [self._tensor((1,), 0, _TRUTH), *(self._tensor((self.elements,), 0, _FLOAT) for _ in range(2))]
        calls = number < self.depth
        options = self._table((0, "Int32", number + 1), (1, "Int32", self.depth)) if calls else 0
        inputs, outputs = self._numbers((0, 0, 1) if calls else (1,)), self._numbers((2,))
        fields = [(0, "Uint32", 0 if calls else 1), (1, "UOffsetTRelative", inputs), (2, "UOffsetTRelative", outputs)]
        fields += [(3, "Uint8", 92), (4, "UOffsetTRelative", options)] if calls else []
        operators = self._tables([self._table(*fields)])
        parts = {0: self._tables(tensors), 1: self._numbers((0, 1)), 2: self._numbers((2,)), 3: operators}
        return self._table(*((slot, "UOffsetTRelative", part) for slot, part in parts.items()))


class _Shared(TfLite):
    """One operator, with one list of inputs, again and again."""

    def __init__(self, builder: Any, *, times: int) -> None:
        super().__init__(builder, inputs=(0,) * times)
        self.times = times

    def _subgraph(self) -> int:
        tensors = self._tables([self._tensor((2,), 1), self._tensor((2,), 0)])
        inputs, outputs = self._numbers(self.inputs), self._numbers((1,))
        operator = self._table((1, "UOffsetTRelative", inputs), (2, "UOffsetTRelative", outputs))
        parts = {0: tensors, 1: self._numbers((0,)), 2: self._numbers((1,)), 3: self._tables([operator] * self.times)}
        return self._table(*((slot, "UOffsetTRelative", part) for slot, part in parts.items()))


class _WithMetadata(TfLite):
    """Metadata in a buffer that is not there, which is looked at once all operators were."""

    def build(self) -> int:
        """The whole model."""
        self._metadata = self._tables([self._table((1, "Uint32", 99))])
        return super().build()

    def _table(self, *fields: tuple[int, str, int]) -> int:
        whole = fields[:1] == ((0, "Uint32", 3),)
        return super()._table(*fields, *([(6, "UOffsetTRelative", self._metadata)] if whole else []))


def _model(model: Callable[..., TfLite], **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import flatbuffers

        builder = flatbuffers.Builder(0)
        builder.Finish(model(builder, **options).build(), b"TFL3")
        return written(folder / "model.tflite", bytes(builder.Output()))

    return make


TFLITE_CASES = (
    Case("tflite-nested-memory", _model(_Nested, depth=30, elements=1 << 28), UNKNOWN, COSTS),
    Case("tflite-divided-by-an-input", _model(_WithMetadata, code=42, inputs=(0, 0), kind=2, buffer=0), UNSAFE),
)
HONEST_NESTED = _model(_Nested, depth=3, elements=1 << 10)
SHARED = _model(_Shared, times=3000)
"""Nine million inputs in a file of 40 kB."""
