"""Models of TensorFlow Lite that do what they should not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, UNSAFE, Case
from corpus.messages import FIXTURES, written

OUT = "https://cwe.mitre.org/data/definitions/787.html"
NVD = "https://nvd.nist.gov/vuln/detail/"
COSTS = "https://cwe.mitre.org/data/definitions/400.html"
_IF, _NEGATIVE = 118, 92
_TRUTH, _FLOAT = 6, 0


def tflite(model: Callable[..., TfLite] | None = None, /, **options: Any) -> Callable[[Path], Path]:
    """Writes a small model of TensorFlow Lite: by itself one operator that squares, as many subgraphs as wanted."""

    def make(folder: Path) -> Path:
        import flatbuffers

        builder = flatbuffers.Builder(0)
        builder.Finish((model or TfLite)(builder, **options).build(), b"TFL3")
        return written(folder / "model.tflite", bytes(builder.Output()))

    return make


class TfLite:
    """Tables from the inside out, as flatbuffers are written."""

    def __init__(
        self,
        builder: Any,
        *,
        shape: tuple[int, ...] = (2,),
        buffer: int = 1,
        inputs: tuple[int, ...] = (0,),
        opcode: int = 0,
        custom: str = "",
        code: int = 92,
        result: tuple[int, ...] | None = None,
        constants: tuple[tuple[int, ...], ...] = (),
        calls: tuple[int, int] | None = None,
        subgraphs: int = 1,
        data: bytes = bytes(8),
        options: bytes = b"",
        elsewhere: tuple[int, int] | None = None,
        kind: int = 0,
        table: int = 0,
    ) -> None:
        self.builder = builder
        for name, value in list(locals().items()):
            if name not in {"self", "builder"}:
                setattr(self, name, value)

    def _table(self, *fields: tuple[int, str, int]) -> int:
        self.builder.StartObject(13)
        for slot, kind, value in fields:
            getattr(self.builder, f"Prepend{kind}Slot")(slot, value, 0)
        return int(self.builder.EndObject())

    def _tables(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def _numbers(self, numbers: tuple[int, ...]) -> int:
        self.builder.StartVector(4, len(numbers), 4)
        for value in reversed(numbers):
            self.builder.PrependInt32(value)
        return int(self.builder.EndVector())

    def build(self) -> int:
        builder: Any = self.builder
        me: Any = self
        name = builder.CreateString(me.custom) if me.custom else 0
        codes = [(0, "Int8", min(me.code, 127)), (3, "Int32", me.code)]
        code = self._table(*codes, *([(1, "UOffsetTRelative", name)] if name else []))
        data = builder.CreateByteVector(me.data)
        outside = [(1, "Uint64", me.elsewhere[0]), (2, "Uint64", me.elsewhere[1])] if me.elsewhere else []
        kept = [builder.CreateByteVector(struct.pack(f"<{len(each)}i", *each)) for each in me.constants]
        buffers = [self._table(), self._table((0, "UOffsetTRelative", data), *outside)]
        buffers += [self._table((0, "UOffsetTRelative", each)) for each in kept]
        graphs = [self._subgraph() for _ in range(me.subgraphs)]
        parts = {1: self._tables([code]), 2: self._tables(graphs), 4: self._tables(buffers)}
        return self._table((0, "Uint32", 3), *((slot, "UOffsetTRelative", part) for slot, part in parts.items()))

    def _subgraph(self) -> int:
        me: Any = self
        result = me.shape if me.result is None else me.result
        tensors = [self._tensor(me.shape, me.buffer, me.kind), self._tensor(result, 0, me.kind)]
        tensors += [self._tensor((len(each),), index + 2, 2) for index, each in enumerate(me.constants)]
        called = self._table((0, "Int32", me.calls[0]), (1, "Int32", me.calls[1])) if me.calls else 0
        options = me.builder.CreateByteVector(me.options) if me.options else 0
        inputs, outputs = self._numbers(me.inputs), self._numbers((1,))
        fields = [(0, "Uint32", me.opcode), (1, "UOffsetTRelative", inputs), (2, "UOffsetTRelative", outputs)]
        called = called or (self._table() if me.table else 0)
        fields += [(3, "Uint8", me.table or 92), (4, "UOffsetTRelative", called)] if called else []
        fields += [(5, "UOffsetTRelative", options)] if options else []
        operator = self._table(*fields)
        parts = {0: self._tables(tensors), 1: self._numbers((0,)), 2: self._numbers((1,)), 3: self._tables([operator])}
        return self._table(*((slot, "UOffsetTRelative", part) for slot, part in parts.items()))

    def _tensor(self, shape: tuple[int, ...], buffer: int, kind: int = 0) -> int:
        dims = self._numbers(shape)
        return self._table((0, "UOffsetTRelative", dims), (1, "Int8", kind), (2, "Uint32", buffer))


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


TFLITE_CASES = (
    Case("tflite-negative-tensor", tflite(inputs=(-2,)), UNSAFE, NVD + "CVE-2020-15211"),
    Case("tflite-tensor-beyond", tflite(inputs=(9,)), UNSAFE, NVD + "CVE-2020-15211"),
    Case("tflite-buffer-beyond", tflite(buffer=7), UNSAFE),
    Case("tflite-opcode-beyond", tflite(opcode=7), UNSAFE),
    Case("tflite-short-buffer", tflite(shape=(1 << 10,)), UNSAFE),
    Case("tflite-negative-shape", tflite(shape=(-5,)), UNSAFE),
    Case("tflite-shape-bomb", tflite(shape=(1 << 30, 1 << 30), buffer=0), UNSAFE),
    Case("tflite-recursion", tflite(code=118, calls=(0, 0)), UNSAFE, NVD + "CVE-2021-29591"),
    Case("tflite-recursion-of-two", tflite(code=119, calls=(0, 1), subgraphs=2), UNSAFE, NVD + "CVE-2021-29591"),
    Case("tflite-call-beyond", tflite(code=118, calls=(5, 5)), UNSAFE),
    Case(
        "tflite-flex-read",
        tflite(code=32, custom="FlexReadFile"),
        UNSAFE,
        "https://www.tensorflow.org/lite/guide/ops_select",
    ),
    Case("tflite-flex-hidden", tflite(code=32, custom="FlexAdd", options=b"\x08ReadFile\0"), UNSAFE),
    Case("tflite-flex", tflite(code=32, custom="FlexErf"), UNKNOWN),
    Case("tflite-custom", tflite(code=32, custom="MyOwnOp"), UNKNOWN),
    Case("tflite-data-beyond", tflite(elsewhere=(1 << 40, 8)), UNSAFE),
    Case(
        "tflite-slice-beyond", tflite(code=65, inputs=(0, 2, 3), constants=((1,), (1000,)), result=(1,)), UNKNOWN, OUT
    ),
    Case("tflite-input-left-out", tflite(inputs=(-1,)), UNSAFE, OUT),
    Case("tflite-read-before-written", tflite(inputs=(1,)), UNSAFE, OUT),
    Case("tflite-more-than-there-is-room-for", tflite(result=(1,)), UNKNOWN, OUT),
    Case(
        "tflite-reshaped-to-another-shape",
        tflite(code=22, inputs=(0, 2), constants=((1, 2),), shape=(2,), result=(2, 1)),
        UNKNOWN,
        OUT,
    ),
    Case(
        "tflite-texts",
        tflite(code=22, inputs=(0, 2), constants=((1,),), shape=(1,), kind=5, data=struct.pack("<3i", 1, 12, 1 << 20)),
        UNKNOWN,
        "https://cwe.mitre.org/data/definitions/125.html",
    ),
    Case("tflite-options-of-another-operator", tflite(table=5), UNKNOWN, OUT),
    Case("tflite-no-scale", tflite(code=0, inputs=(0, 0), kind=9, data=bytes(2)), UNKNOWN),
    Case("tflite-division", tflite(code=42, inputs=(0, 0), kind=2, data=struct.pack("<2i", -1 << 31, -1)), UNKNOWN),
    Case("tflite-many-dimensions", tflite(shape=(1,) * 9, data=bytes(4)), UNKNOWN),
    Case("tflite-much-memory", tflite(shape=((1 << 29) + 8,), buffer=0), UNKNOWN),
    Case("tflite-no-subgraph", tflite(subgraphs=0), UNKNOWN),
    Case("tflite-loop", lambda folder: written(folder / "m.tflite", (FIXTURES / "while.tflite").read_bytes()), UNKNOWN),
    Case(
        "tflite-cut",
        lambda folder: written(folder / "m.tflite", (FIXTURES / "dense.tflite").read_bytes()[:500]),
        UNKNOWN,
    ),
    Case("tflite-nested-memory", tflite(_Nested, depth=30, elements=1 << 28), UNKNOWN, COSTS),
    Case("tflite-divided-by-an-input", tflite(_WithMetadata, code=42, inputs=(0, 0), kind=2, buffer=0), UNSAFE),
)
HONEST_NESTED = tflite(_Nested, depth=3, elements=1 << 10)
SHARED = tflite(_Shared, times=3000)
"""Nine million inputs in a file of 40 kB."""
