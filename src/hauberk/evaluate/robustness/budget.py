"""What an adversary may spend, and which attacks that buys: one table, one row an attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.attacks import FGSM, PGD, Attack, ScoreSearch
from hauberk.errors import InputError

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One attack of the protocol.

    Attributes:
        budgets: The named budgets that it belongs to.
        make: Makes it for a budget and a pool of real benign records, float32 [M, D], to borrow from.
    """

    budgets: str
    make: Callable[[Budget, Features], Attack[Any]]


def _pgd(budget: Budget, _: Features) -> Attack[Any]:
    # Never stops early: a record that barely fools the twin may not fool the session, which rounds otherwise.
    return PGD(steps=budget.steps, restarts=budget.restarts, early_stopping=False)


TABLE: Mapping[str, Row] = {
    # with gradients
    "fgsm": Row("quick standard full", lambda _, __: FGSM()),
    "pgd": Row("quick standard full", _pgd),
    # with scores of the real session
    "score-search": Row("quick standard full", lambda budget, _: ScoreSearch(queries=budget.queries)),
}
"""Every attack of the protocol by name, in the order in which it runs."""


def attacks_of(budget: str) -> tuple[str, ...]:
    """The attacks that belong to a named budget, in their order."""
    return tuple(name for name, row in TABLE.items() if budget in row.budgets.split())


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much the adversary may spend.

    Attributes:
        records: Most records to attack; a stratified sample of those handed in.
        steps: Steps of a gradient attack in one restart.
        restarts: Restarts of it: the first from the record itself, the others from random points around it.
        queries: Queries a record of each attack on the real session; with 0 none of these runs.
        attacks: Names of the attacks, of `TABLE`; by default those of the standard budget.

    Raises:
        InputError: Records, steps or restarts are below 1, queries below 0, or an attack is not known.
    """

    records: int = 1000
    steps: int = 40
    restarts: int = 2
    queries: int = 1000
    attacks: tuple[str, ...] = attacks_of("standard")

    def __post_init__(self) -> None:
        for name, least in (("records", 1), ("steps", 1), ("restarts", 1), ("queries", 0)):
            if getattr(self, name) < least:
                raise InputError(f"robustness budget: {name} must be at least {least}, not {getattr(self, name)}")
        unknown = [name for name in self.attacks if name not in TABLE]
        if unknown:
            raise InputError(f"robustness budget: unknown attack {unknown[0]!r}; known are {', '.join(TABLE)}")

    def limited(self, queries: int | None) -> Budget:
        """The same with at most so many queries a record, where there is a limit."""
        return self if queries is None else msgspec.structs.replace(self, queries=min(queries, self.queries))

    def build(self, pool: Features) -> tuple[Attack[Any], ...]:
        """The attacks, sized by this budget, in the order in which they run.

        Args:
            pool: Float32 [M, D], real benign records, for attacks that borrow from them.
        """
        return tuple(TABLE[name].make(self, pool) for name in self.attacks)


BUDGETS: Mapping[str, Budget] = {
    "quick": Budget(records=200, steps=10, restarts=1, queries=100, attacks=attacks_of("quick")),
    "standard": Budget(),
    "full": Budget(records=5000, steps=100, restarts=5, queries=5000, attacks=attacks_of("full")),
}
"""How much the adversary may spend, by name."""
