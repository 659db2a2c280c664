"""The account of memory and operations while a graph is followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hauberk.scan.examination import Examination
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.model import Node
from hauberk.scan.graphs.values import Value
from hauberk.scan.report import Rule, shown

NODE_OPERATIONS = 1000
"""Scalar operations that running any node counts for, whatever it computes: about a microsecond."""

MOST_FOUND = 20
"""Findings after which an estimate ends."""

MOST_STEPS = 250_000
"""Nodes that are followed, those of functions and loops once for each time."""


class StopEstimateError(Exception):
    """Nothing more is estimated; the reason has been reported."""


class TrialFailedError(Exception):
    """What was tried on trial would have had to be reported."""


@dataclass(slots=True)
class Buffer:
    """Memory of one value, and how many names use it.

    Attributes:
        size: Bytes.
        sure: It is that large whatever the data; else at most that large.
        names: Uses that are left; it is freed with the last.
    """

    size: int
    sure: bool
    names: int = 0


@dataclass
class Totals:
    """Bytes or operations: those that are sure, and those that there are at most."""

    sure: float = 0
    most: float = 0

    def add(self, amount: float, *, sure: bool) -> None:
        """More (or less, below zero) of it."""
        self.most += amount
        if sure:
            self.sure += amount


@dataclass
class Account:
    """What a run takes, as far as it has been followed.

    Attributes:
        examination: Asked for limits and time.
        found: What is wrong, in the order in which it was found: rule, words, place in the file.
        doubts: What could not be told in branches that the assumed sizes do not take.
        live: Bytes in use.
        peak: The most bytes that were in use.
        operations: Scalar operations so far.
        allowance: The limits count this often (for more records than they are meant for).
        steps: Nodes followed.
        complete: Everything was reached; else the assumed sizes do not fit some part of the model.
    """

    examination: Examination
    allowance: float = 1
    found: list[tuple[Rule, str, int]] = field(default_factory=list)
    doubts: list[tuple[Rule, str, int]] = field(default_factory=list)
    live: Totals = field(default_factory=Totals)
    peak: float = 0
    operations: Totals = field(default_factory=Totals)
    steps: int = 0
    complete: bool = True
    _times: list[tuple[float, bool]] = field(default_factory=lambda: [(1.0, True)])
    _trial: bool = False

    @contextmanager
    def repeated(self, times: float, *, sure: bool) -> Iterator[None]:
        """What is followed inside counts as often as this."""
        outer, outer_sure = self._times[-1]
        self._times.append((outer * times, outer_sure and sure))
        try:
            yield
        finally:
            self._times.pop()

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What is followed inside is not reported and does not count.

        Raises:
            TrialFailedError: Something would have been reported.
        """
        before = (self.live.sure, self.live.most, self.peak, self.operations.sure, self.operations.most, self._trial)
        self._trial = True
        try:
            yield
        finally:
            self.live = Totals(before[0], before[1])
            self.peak = before[2]
            self.operations = Totals(before[3], before[4])
            self._trial = before[5]

    def report(self, rule: Rule, what: str, node: Node, *, doubtful: bool = False) -> None:
        """Note what is wrong with a node.

        Args:
            rule: What was broken.
            what: In words.
            node: Where.
            doubtful: It stands in a branch that the assumed sizes do not take.

        Raises:
            TrialFailedError: This is a trial.
        """
        if self._trial:
            raise TrialFailedError
        name = f" ('{shown(node.name)}')" if node.name else ""
        (self.doubts if doubtful else self.found).append((rule, f"'{shown(node.operator)}'{name}: {what}", node.at))
        if len(self.found) + len(self.doubts) >= MOST_FOUND:
            raise StopEstimateError

    def misfit(self) -> None:
        """A run ends here with the assumed sizes.

        Raises:
            TrialFailedError: This is a trial.
        """
        if self._trial:
            raise TrialFailedError
        self.complete = False

    def step(self, node: Node) -> None:
        """A node is followed.

        Raises:
            StopEstimateError: There are too many.
            StopScan: Time is up.
        """
        self.steps += 1
        if self.steps % 256 == 0:
            self.examination.check_time()
        if self.steps > MOST_STEPS:
            self._trial = False
            self.report(rules.UNMODELLED, f"not followed to the end, after {MOST_STEPS} nodes", node)
            raise StopEstimateError

    def work(self, amount: float, node: Node, *, sure: bool) -> None:
        """A node computes.

        Raises:
            StopEstimateError: It is more than the limit.
        """
        times, times_sure = self._times[-1]
        self.operations.add((amount + NODE_OPERATIONS) * times, sure=sure and times_sure)
        limit = self.examination.limits.model_operations * self.allowance
        if self.operations.sure > limit:
            self.report(rules.OPERATION_BOMB, f"{self.operations.sure:.3g} operations by here; limit {limit:.3g}", node)
            raise StopEstimateError
        if self.operations.most > limit:
            what = f"up to {self.operations.most:.3g} operations by here, depending on data; limit {limit:.3g}"
            self.report(rules.UNBOUNDED_LOOP, what, node)
            raise StopEstimateError

    def take(self, size: float, node: Node, *, sure: bool) -> None:
        """A node takes memory.

        Raises:
            StopEstimateError: It is more than the limit.
        """
        self.live.add(size, sure=sure)
        self.peak = max(self.peak, self.live.most)
        limit = int(self.examination.limits.model_memory * self.allowance)
        if self.live.sure > limit:
            self.report(rules.MEMORY_BOMB, f"{int(self.live.sure)} bytes in use by here; limit {limit}", node)
            raise StopEstimateError
        if self.live.most > limit:
            what = f"up to {int(self.live.most)} bytes in use by here, depending on data; limit {limit}"
            self.report(rules.UNBOUNDED_SIZE, what, node)
            raise StopEstimateError

    def free(self, size: float, *, sure: bool) -> None:
        """Memory is given back."""
        self.live.add(-size, sure=sure)


@dataclass(slots=True)
class Held:
    """A value under a name."""

    value: Value
    buffer: Buffer | None = None


class Scope:
    """Values by name, those of graphs around included."""

    def __init__(self, parent: Scope | None = None) -> None:
        self.parent = parent
        self.own: dict[str, Held] = {}

    def find(self, name: str) -> Held | None:
        """The value of a name; `None` where there is none."""
        scope: Scope | None = self
        while scope is not None:
            if (held := scope.own.get(name)) is not None:
                return held
            scope = scope.parent
        return None
