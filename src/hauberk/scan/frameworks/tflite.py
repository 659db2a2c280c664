"""Models of TensorFlow Lite: a FlatBuffer of subgraphs, tensors and operators.

The interpreter trusts many of the indices in a model. Everything that it would follow is checked here: tensors,
buffers, subgraphs that call one another, and operators that are not its own.
Format: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks import tensorflow, tflite_shapes, tflite_types
from hauberk.scan.frameworks.flatbuffer import Buffer, Table
from hauberk.scan.frameworks.tensorflow_rules import DANGEROUS
from hauberk.scan.frameworks.tflite_calls import NUMBERS_MOST, Call, Tensor
from hauberk.scan.frameworks.tflite_costs import Costs, circles, peak, total
from hauberk.scan.frameworks.tflite_numbers import computed
from hauberk.scan.frameworks.tflite_operators import missing_input
from hauberk.scan.frameworks.tflite_rules import (
    BOUNDS,
    COSTLY,
    CUSTOM,
    DAMAGED,
    FLEX,
    RECURSION,
    RULES,
    UNCHECKED,
)
from hauberk.scan.pickles.bare import begins_pickle
from hauberk.scan.report import shown

_CUSTOM, _CALL, _DELEGATE, _IF, _WHILE, _CALL_ONCE = 32, 31, 51, 118, 119, 129
_NEWEST_PLAIN = 161
_CALLS = {_CALL: 1, _IF: 2, _WHILE: 2, _CALL_ONCE: 1}
_SIZES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 8: 8, 9: 1, 10: 8, 11: 16, 12: 8, 15: 4, 16: 2, 18: 2}
_MODEL_FIELDS, _SUBGRAPH_FIELDS, _TENSOR_FIELDS, _OPERATOR_FIELDS = 7, 5, 9, 12
_WHOLE = {2: "<i4", 4: "<i8"}
_TRUTH = 6
_TENSORS = ((1, -1), (2, 0), (8, -1))  # of an operator: inputs, outputs, intermediate ones; -1 stands for none
_RANK_MOST = 64
_PARTS_MOST, _OF_TABLE = 1 << 21, 8
"""Tensors that operators and subgraphs name, in all, and for how many of these a table counts."""
_WORD = re.compile(rb"[A-Z][A-Za-z0-9_]{3,}")


def recognise(head: bytes, content: Content) -> bool:
    """The mark of the format, at its place in any FlatBuffer, and nothing that an unpickler would follow."""
    return head[4:8] == b"TFL3" and not begins_pickle(head, content)


def examine(content: Content, examination: Examination) -> None:
    """Follow everything."""
    try:
        _Model(content, examination).run()
    except (CutError, ValueError, IndexError) as error:
        examination.find(DAMAGED, shown(str(error)))


class _Model:
    def __init__(self, content: Content, examination: Examination) -> None:
        self._content = content
        self._examination = examination
        self._root = Buffer(content, examination).root()
        self._buffers = self._root.tables(4)
        self._subgraphs = self._root.tables(2)
        self._parts = 0
        self._needed = 0
        self._calls: dict[int, set[int]] = {}
        self._handed: list[tuple[Table, int, list[Tensor], list[Tensor]]] = []
        self._costs: list[Costs] = []
        self._tensors: list[list[Tensor]] = []

    def run(self) -> None:
        self._known(self._root, _MODEL_FIELDS, "model")
        buffers = [self._buffer(each, index) for index, each in enumerate(self._buffers)]
        codes = [self._code(each) for each in self._root.tables(1)]
        subgraphs = self._subgraphs
        if not subgraphs:
            raise ValueError("a model without subgraphs")
        for index, subgraph in enumerate(subgraphs):
            self._known(subgraph, _SUBGRAPH_FIELDS, "subgraph")
            self._count(subgraph)
            self._costs.append(Costs())
            tensors = self._subgraph(subgraph, index, codes, buffers, len(subgraphs))
            self._tensors.append(tensors)
            self._needed += self._memory(subgraph, tensors, buffers)
        for each in self._root.tables(6):
            if each.scalar(1, 4) >= len(buffers):
                self._find(f"metadata in buffer {each.scalar(1, 4)} of {len(buffers)}", "metadata")
        for each in self._root.tables(7):
            if each.scalar(4, 4) >= len(subgraphs):
                self._find(f"a signature of subgraph {each.scalar(4, 4)} of {len(subgraphs)}", "signature")
        self._check_costs()
        for operator, code, inputs, outputs in self._handed:
            if not all(self._agrees(*each) for each in _parts_called(operator, code, inputs, outputs)):
                self._examination.find(UNCHECKED, f"operator {code} calls a subgraph that takes or gives other tensors")
        self._examination.facts["subgraphs"] = len(subgraphs)
        self._examination.facts["operators"] = len(codes)

    def _count(self, table: Table) -> None:
        """Count what a subgraph lists: lists may be used again and again, so that a small file has any number of parts.

        Raises:
            ValueError: There are more than any model has.
        """
        self._more(sum(_OF_TABLE * table.vector(field, 4)[1] for field in (0, 3)))
        self._more(sum(table.vector(field, 4)[1] for field in (1, 2)))
        for operator in table.tables(3):
            self._more(sum(operator.vector(field, 4)[1] for field, _ in _TENSORS))

    def _more(self, parts: int) -> None:
        self._parts += parts
        if self._parts > _PARTS_MOST:
            raise ValueError("more tensors and operators than are followed")

    def _find(self, what: str, at: str) -> None:
        self._examination.find(BOUNDS, what, at=at)

    def _known(self, table: Table, last: int, what: str) -> None:
        if table.last_field > last:
            self._examination.find(DAMAGED, f"field {table.last_field} of a {what}")

    def _buffer(self, table: Table, index: int) -> int:
        """Bytes of a buffer."""
        place, size = table.vector(0, 1)
        offset, length = table.scalar(1, 8), table.scalar(2, 8)
        if offset > 1:  # kept behind the FlatBuffer, in models of more than 2 GB
            if offset + length > self._content.size:
                self._find(f"{length} bytes at byte {offset}", f"buffer {index}")
            if size:
                self._examination.find(DAMAGED, "a buffer with two contents", at=f"buffer {index}")
            return length
        return size if place else 0

    def _code(self, table: Table) -> tuple[int, str]:
        """Number and name of an operator; what is no operator of the interpreter's own is found here."""
        number = max(table.scalar(0, 1, signed=True), table.scalar(3, 4, signed=True))
        name = table.text(1)
        if number == _CUSTOM:
            operation = name.removeprefix("Flex")
            if operation != name and tensorflow.is_dangerous(operation):
                self._examination.find(DANGEROUS, shown(name), at="operators")
            else:
                self._examination.find(FLEX if operation != name else CUSTOM, shown(name), at="operators")
        elif number == _DELEGATE or not 0 <= number <= _NEWEST_PLAIN:
            self._examination.find(CUSTOM, f"operator {number}", at="operators")
        return number, name

    def _subgraph(
        self, table: Table, index: int, codes: list[tuple[int, str]], buffers: list[int], subgraphs: int
    ) -> list[Tensor]:
        tensors = table.tables(0)
        for number, tensor in enumerate(tensors):
            self._tensor(tensor, buffers, f"subgraph {index}, tensor {number}")
        described = [self._described(tensor) for tensor in tensors]
        self._check_order(table, tensors, buffers, f"subgraph {index}")
        for field, what in ((1, "input"), (2, "output")):
            self._indices(table, field, len(tensors), f"subgraph {index}, {what}s", least=0)
        for number, operator in enumerate(table.tables(3)):
            at = f"subgraph {index}, operator {number}"
            self._known(operator, _OPERATOR_FIELDS, "operator")
            code = operator.scalar(0, 4)
            if code >= len(codes):
                self._find(f"operator code {code} of {len(codes)}", at)
                continue
            inside = [self._indices(operator, field, len(tensors), at, least=least) for field, least in _TENSORS]
            if all(inside):
                self._reach(operator, codes[code][0], described, at)
            self._large_options(operator, at)
            self._options(operator, codes[code], index, subgraphs, at)
        return described

    def _indices(self, table: Table, field: int, tensors: int, at: str, *, least: int) -> bool:
        """Whether all tensors that a field names are there."""
        numbers = table.numbers(field, "<i4")
        if numbers.size and (numbers.min() < least or numbers.max() >= tensors):
            self._find(f"tensors {numbers.min()} to {numbers.max()}, of {tensors}", at)
            return False
        return True

    def _described(self, table: Table) -> Tensor:
        shape = tuple(int(size) for size in table.numbers(0, "<i4"))
        kind, scaled, fits = table.scalar(1, 1), table.table(4), True
        scales: list[float] = []
        if scaled is not None:
            scales, zeros = scaled.numbers(2, "<f4").tolist(), scaled.numbers(3, "<i8").tolist()
            fits = tflite_shapes.scales_fit(kind, shape, scales, zeros, scaled.scalar(6, 4, signed=True))
            scales = [min(scales), max(scales)] if len(scales) > 1 else scales
        buffer = 0 if table.scalar(5, 1) else table.scalar(2, 4)  # what a variable begins with is not what it holds
        left_open = tuple(int(size) for size in table.numbers(7, "<i4"))
        return Tensor(kind, shape, partial(self._constant, buffer, kind), fits, tuple(scales), left_open)

    def _check_order(self, table: Table, tensors: list[Table], buffers: list[int], at: str) -> None:
        """Every tensor is written before it is read, once, and by one operator."""
        written = set(table.numbers(1, "<i4").tolist())
        given = {each for operator in table.tables(3) for each in operator.numbers(2, "<i4").tolist()}
        for number, tensor in enumerate(tensors):
            buffer = tensor.scalar(2, 4)
            empty = number not in given and 0 in tensor.numbers(0, "<i4").tolist()  # a constant without elements
            if empty or tensor.scalar(5, 1) or (buffer < len(buffers) and buffers[buffer]):
                written.add(number)
        for number, operator in enumerate(table.tables(3)):
            inputs, outputs = (operator.numbers(field, "<i4").tolist() for field in (1, 2))
            if {each for each in inputs if each >= 0} - written:
                self._find("a tensor is read that nobody has written", f"{at}, operator {number}")
            if len(set(outputs) - written) != len(outputs):
                self._find("a tensor is written twice", f"{at}, operator {number}")
            written.update(outputs)
        if set(table.numbers(2, "<i4").tolist()) - written:
            self._find("a result that nobody has written", at)

    def _constant(self, buffer: int, kind: int) -> npt.NDArray[np.int64] | None:
        """Whole numbers that stand in the model, where they are few."""
        if kind not in _WHOLE or not 0 < buffer < len(self._buffers):
            return None
        width, (_, size) = np.dtype(_WHOLE[kind]).itemsize, self._buffers[buffer].vector(0, 1)
        if not size or size % width or size > NUMBERS_MOST * width:
            return None
        return np.frombuffer(self._buffers[buffer].numbers(0, "u1").tobytes(), _WHOLE[kind]).astype(np.int64)

    def _reach(self, operator: Table, code: int, tensors: list[Tensor], at: str) -> None:
        """What kernels do not look at: inputs that are absent, and whether there is room for what they give."""
        inputs, outputs = ([int(each) for each in operator.numbers(field, "<i4")] for field in (1, 2))
        problem = missing_input(code, inputs, outputs)
        if operator.table(4) and operator.scalar(3, 1) != tflite_types.OPTIONS.get(code, 0):
            self._examination.find(UNCHECKED, f"options of type {operator.scalar(3, 1)} for operator {code}", at=at)
        if problem:
            self._find(problem, at)
        elif code in _CALLS:
            if code == _WHILE:
                self._examination.find(UNCHECKED, "a loop that may never end", at=at)
            self._handed.append(
                (operator, code, [tensors[each] for each in inputs], [tensors[each] for each in outputs])
            )
        elif code != _CUSTOM:
            given = [tensors[each] if each >= 0 else None for each in inputs]
            call = Call(given, [tensors[each] for each in outputs], operator.table(4))
            problem, shapes = tflite_shapes.problem(code, call)
            problem = problem or tflite_types.mismatch(code, call)
            if problem:
                self._examination.find(UNCHECKED, shown(f"operator {code}: {problem}"), at=at)
                return
            for each, shape in zip(outputs, shapes, strict=True):
                tensors[each] = tensors[each]._replace(shape=shape)
            call = call._replace(outputs=[tensors[each] for each in outputs])
            self._costs[-1].add(code, call)
            if (numbers := computed(code, call)) is not None:
                tensors[outputs[0]] = tensors[outputs[0]]._replace(numbers=lambda: numbers)

    def _tensor(self, table: Table, buffers: list[int], at: str) -> None:
        self._known(table, _TENSOR_FIELDS, "tensor")
        if (rank := max(table.vector(field, 4)[1] for field in (0, 7))) > _RANK_MOST:
            raise ValueError(f"a tensor of {rank} dimensions, {at}")
        shape = [int(size) for size in table.numbers(0, "<i4").astype(np.int64)]
        buffer, width = table.scalar(2, 4), _SIZES.get(table.scalar(1, 1), 0)
        if buffer >= len(buffers):
            self._find(f"buffer {buffer} of {len(buffers)}", at)
            return
        size = math.prod(shape) * width
        if any(each < 0 for each in shape) or size > self._examination.limits.model_memory:
            self._find(f"shape {shown(str(shape))}", at)
        elif table.table(6) is not None and buffers[buffer]:
            self._examination.find(DAMAGED, "a tensor that is kept in a form for many zeros", at=at)
        elif width and buffers[buffer] and size != buffers[buffer]:
            self._find(f"{buffers[buffer]} bytes for shape {shown(str(shape))} of {width} bytes an element", at)

    def _large_options(self, operator: Table, at: str) -> None:
        offset, size = operator.scalar(9, 8), operator.scalar(10, 8)
        if offset > 1 and offset + size > self._content.size:
            self._find(f"options of {size} bytes at byte {offset}", at)

    def _options(self, operator: Table, code: tuple[int, str], index: int, subgraphs: int, at: str) -> None:
        number, name = code
        if number in _CALLS:
            options = operator.table(4)
            for field in range(_CALLS[number]):
                called = options.scalar(field, 4, signed=True) if options else 0
                if not 0 <= called < subgraphs:
                    self._find(f"a call of subgraph {called} of {subgraphs}", at)
                self._calls.setdefault(index, set()).add(called)
                self._costs[-1].calls.append(called)
        elif number == _CUSTOM and name.startswith("Flex"):
            for word in set(_WORD.findall(operator.numbers(5, "u1").tobytes())):
                if tensorflow.is_dangerous(word.decode("ascii")):
                    self._examination.find(DANGEROUS, shown(f"{name} with {word!r}"), at=at)

    def _agrees(self, subgraph: int, inputs: list[Tensor], outputs: list[Tensor] | None) -> bool:
        """Whether a subgraph takes and gives tensors of these types and shapes; a truth where none are stated."""
        if not 0 <= subgraph < len(self._subgraphs):
            return False  # found where it was called
        table, tensors = self._subgraphs[subgraph], self._tensors[subgraph]  # as they were worked out
        takes, gives = ([tensors[each] for each in table.numbers(field, "<i4").tolist()] for field in (1, 2))
        if outputs is None:
            return (
                _alike(takes, inputs) and len(gives) == 1 and gives[0].kind == _TRUTH and math.prod(gives[0].shape) == 1
            )
        return _alike(takes, inputs) and _alike(gives, outputs)

    def _memory(self, table: Table, tensors: list[Tensor], buffers: list[int]) -> int:
        """Bytes of tensors that are there at once, and of what convolutions lay out beside them."""
        sizes = {}
        for number, (tensor, described) in enumerate(zip(table.tables(0), tensors, strict=True)):
            buffer = tensor.scalar(2, 4)
            if buffer < len(buffers) and not buffers[buffer]:
                sizes[number] = math.prod(described.shape) * _SIZES.get(described.kind, 16)
        steps = [tuple(each.numbers(field, "<i4").tolist() for field in (1, 2)) for each in table.tables(3)]
        kept = {*table.numbers(1, "<i4").tolist(), *table.numbers(2, "<i4").tolist()}
        return peak([(takes, gives) for takes, gives in steps], sizes, kept) + self._costs[-1].scratch

    def _check_costs(self) -> None:
        """What a run takes; the interpreter takes memory for all subgraphs before it runs the first."""
        if self._needed > self._examination.limits.model_memory:
            self._examination.find(COSTLY, f"{self._needed} bytes at once")
        if circle := circles(self._calls):
            self._examination.find(RECURSION, f"subgraphs {shown(str(circle[:_RANK_MOST]))}")
        elif all(0 <= each < len(self._costs) for one in self._costs for each in one.calls):  # else found at the call
            operations = total(self._costs)
            if operations > self._examination.limits.model_operations:
                self._examination.find(COSTLY, f"{float(operations):.1e} operations for a run")


def _alike(some: list[Tensor], others: list[Tensor]) -> bool:
    """Whether tensors are of the same types and shapes, one by one."""
    return [each[:2] for each in some] == [each[:2] for each in others]


def _parts_called(
    operator: Table, code: int, inputs: list[Tensor], outputs: list[Tensor]
) -> Iterator[tuple[int, list[Tensor], list[Tensor] | None]]:
    """Subgraphs that an operator calls, with what each is given and has to give."""
    options = operator.table(4)
    called = [options.scalar(field, 4, signed=True) if options else 0 for field in range(_CALLS[code])]
    if code == _WHILE:
        yield called[0], inputs, None
        yield called[1], inputs, inputs
    elif code == _IF:
        yield from ((each, inputs[1:], outputs) for each in called)
    else:
        yield called[0], inputs, outputs


FORMATS = (Format("tflite", recognise, examine, (*RULES, DANGEROUS)),)
