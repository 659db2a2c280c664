"""One use of an operator, as the rules that tell its results see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hauberk.scan.graphs.model import Attribute, Numbers
from hauberk.scan.graphs.values import (
    MisfitError,
    PoisonedError,
    Tensor,
    TensorSequence,
    UnmodelledError,
    Value,
    Values,
    tensor,
)


@dataclass
class Call:
    """A node with what is known of its inputs.

    Attributes:
        operator: Its operator.
        version: Of the operator set.
        inputs: `None` where an optional one is left out.
        outputs: How many results are wanted; fewer rules' results are cut to that.
        attributes: Of the node, those of functions filled in.
        operations: Set by a rule that knows better than elements of all inputs and results.
        scratch: Bytes that it takes while it runs, beside inputs and results.
        divides_by_zero: Set by a rule that knows that it does, with whole numbers.
        overflows: Set by a rule that knows that the least number of a type is divided by -1.
        gaps: Some results have blank names.
        view: The first result is the first input under another shape; no memory is taken for it.
    """

    operator: str
    version: int
    inputs: Sequence[Value | None]
    outputs: int
    attributes: Mapping[str, Attribute]
    operations: float | None = None
    scratch: float = 0
    view: bool = False
    divides_by_zero: bool = False
    overflows: bool = False
    gaps: bool = False

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """An input that must be there, whatever it is.

        Raises:
            UnmodelledError: It is not there.
        """
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise UnmodelledError(f"input {index} is missing")
        return found

    def input(self, index: int) -> Tensor:
        """An input that must be there and a tensor.

        Raises:
            UnmodelledError: It is not.
            PoisonedError: Nothing is known of its size.
        """
        found = self.value(index)
        if isinstance(found, TensorSequence):
            raise UnmodelledError(f"input {index} is a sequence")
        if found.count is None:
            raise PoisonedError
        return found

    def optional(self, index: int) -> Tensor | None:
        """An input that may be left out."""
        return self.input(index) if self.has(index) else None

    def tensors(self) -> list[Tensor]:
        """All inputs, as tensors.

        Raises:
            UnmodelledError: One is left out.
        """
        return [self.input(index) for index in range(len(self.inputs))]

    def left_blank(self, index: int) -> bool:
        """Whether an input has a place but no name: some kernels take it for one that is there."""
        return index < len(self.inputs) and self.inputs[index] is None

    def require_constants(self, *indices: int) -> None:
        """That scales and zero points stand in the file: some kernels of ONNX Runtime read them before there is a run.

        Raises:
            UnmodelledError: One does not, or is missing.
        """
        if not all(self.has(index) and self.input(index).constant for index in indices):
            raise UnmodelledError("a scale or zero point that does not stand in the file")

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute that is a whole number."""
        value = self._attribute(name)
        return value if isinstance(value, int) else default

    def number(self, name: str, default: float = 0.0) -> float:
        """An attribute that is a number."""
        value = self._attribute(name)
        return float(value) if isinstance(value, int | float) else default

    def integers(self, name: str) -> list[int] | None:
        """An attribute that is a list of whole numbers; `None` where it is not given.

        Raises:
            UnmodelledError: It is longer than is kept.
        """
        value = self._attribute(name)
        if not isinstance(value, Numbers):
            return None
        if value.count != len(value.values):
            raise UnmodelledError(f"{value.count} numbers in attribute '{name}'")
        return [int(each) for each in value.values]

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a text."""
        value = self._attribute(name)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else default

    def attribute(self, name: str) -> Any:
        """The value of an attribute; `None` where it is not given."""
        return self._attribute(name)

    def _attribute(self, name: str) -> Any:
        found = self.attributes.get(name)
        return None if found is None else found.value

    def result(
        self,
        element: int,
        dims: Sequence[int],
        *,
        values: Values | None = None,
        exact: bool | None = None,
        count: int | None = None,
        text: int = 0,
    ) -> Tensor:
        """A result of these sizes: exact if all inputs are, unless something else is said."""
        if exact is None:
            exact = self.exact
        return tensor(element, dims, exact=exact, values=values, count=count, text=text)

    def misfit(self, what: str) -> Exception:
        """What to raise where shapes are not those that the operator takes: if they are exact, a run fails there."""
        return MisfitError() if self.exact else UnmodelledError(what)

    @property
    def exact(self) -> bool:
        """Whether the shapes of all inputs are exact."""
        return all(value is None or value.exact for value in self.inputs)


Rule = Callable[[Call], Sequence[Value]]

_RULES: dict[tuple[str, str], Rule] = {}


def rule(*operators: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Make a function the rule of operators of a domain."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            if (domain, operator) in _RULES:
                raise ValueError(f"two rules for {domain}.{operator}")
            _RULES[domain, operator] = function
        return function

    return register


def rule_of(domain: str, operator: str) -> Rule | None:
    """The rule of an operator."""
    return _RULES.get((domain, operator))


def covered() -> frozenset[tuple[str, str]]:
    """Every operator that has a rule, with its domain."""
    return frozenset(_RULES)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        UnmodelledError: There is no such axis.
    """
    if not -rank <= axis < max(rank, 1):
        raise UnmodelledError(f"axis {axis} of {rank}")
    return axis + rank if axis < 0 else axis


def broadcast(*shapes: Sequence[int], exact: bool = False) -> tuple[int, ...]:
    """The shape that these have together; where bounds of sizes contradict each other, the larger one.

    Args:
        shapes: One or more.
        exact: None of them is a bound.

    Raises:
        MisfitError: They are exact, and contradict each other.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        different = set(sizes) - {1}
        if exact and len(different) > 1:
            raise MisfitError
        result.append(0 if 0 in sizes and max(sizes) <= 1 else max(sizes))
    return tuple(result)
