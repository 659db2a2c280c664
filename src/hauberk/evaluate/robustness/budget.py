"""What an adversary may spend, and which attacks that buys: one table, one row an attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hauberk.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    Attack,
    Boundary,
    CarliniWagner,
    Ensemble,
    HopSkipJump,
    Mimicry,
    TargetedAPGD,
)
from hauberk.attacks.base import Knowledge
from hauberk.attacks.evolution import Evolution
from hauberk.attacks.finite_differences import FiniteDifferences
from hauberk.attacks.square import Square
from hauberk.errors import InputError
from hauberk.recipe import LabelledFeatures

Reach = Knowledge
"""What the adversary knows; each includes what follows it: "white-box", "scores", "labels"."""

_ALLOWED: dict[Reach, tuple[Knowledge, ...]] = {
    "white-box": ("white-box", "scores", "labels"),
    "scores": ("scores", "labels"),
    "labels": ("labels",),
}

Sizes = Callable[["Budget", LabelledFeatures], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One attack of the protocol.

    Attributes:
        budgets: The named budgets that it belongs to.
        kind: The attack.
        sizes: Its parameters for a budget and a pool of real records to start from and to borrow from.
        many: Whether it does something of its own only where there are more than two answers.
    """

    budgets: str
    kind: type[Attack[Any]]
    sizes: Sizes
    many: bool = False


def _none(budget: Budget, pool: LabelledFeatures) -> dict[str, Any]:  # noqa: ARG001 - the attack has nothing to size
    return {}


def _descent(budget: Budget, pool: LabelledFeatures) -> dict[str, Any]:  # noqa: ARG001
    # Never stops early: a record that barely fools the twin may not fool the session, which rounds otherwise.
    return {"steps": budget.steps, "restarts": budget.restarts, "early_stopping": False}


def _nearest(budget: Budget, pool: LabelledFeatures) -> dict[str, Any]:  # noqa: ARG001
    return {"steps": budget.steps}


def _asked(budget: Budget, pool: LabelledFeatures) -> dict[str, Any]:  # noqa: ARG001
    return {"queries": budget.queries}


def _from_pool(budget: Budget, pool: LabelledFeatures) -> dict[str, Any]:
    known = {"pool": pool.features, "pool_targets": pool.targets}
    return {"queries": budget.queries, "early_stopping": True, **known}


def _all_in_one(budget: Budget, pool: LabelledFeatures) -> dict[str, Any]:  # noqa: ARG001
    return {"steps": budget.steps, "queries": max(1, budget.queries)}  # of the module: the session is not asked


TABLE: Mapping[str, Row] = {
    row.kind.name: row
    for row in (
        # with gradients
        Row("quick standard full", FGSM, _none),
        Row("quick standard full", PGD, _descent),
        Row("quick standard full", APGD, _descent),
        Row("standard full", TargetedAPGD, _descent, many=True),
        Row("standard full", FAB, _nearest),
        Row("full", CarliniWagner, _nearest),
        Row("full", Ensemble, _all_in_one),
        # with scores of the real session
        Row("quick standard full", Square, _asked),
        Row("standard full", Evolution, _asked),
        Row("standard full", FiniteDifferences, _asked),
        # with its labels alone
        Row("quick standard full", Mimicry, _from_pool),
        Row("standard full", HopSkipJump, _from_pool),
        Row("full", Boundary, _from_pool),
    )
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

    def build(self, pool: LabelledFeatures, *, reach: Reach, many: bool) -> tuple[Attack[Any], ...]:
        """The attacks that an adversary knows enough for and has queries for, in the order in which they run.

        Args:
            pool: Real records [M, D] of every class.
            reach: What the adversary knows.
            many: Whether there are more than two answers.
        """
        rows = [TABLE[name] for name in self.attacks]
        return tuple(
            row.kind(**row.sizes(self, pool))
            for row in rows
            if row.kind.knowledge in _ALLOWED[reach]
            and (self.queries or row.kind.knowledge == "white-box")
            and (many or not row.many)
        )


BUDGETS: Mapping[str, Budget] = {
    "quick": Budget(records=200, steps=10, restarts=1, queries=100, attacks=attacks_of("quick")),
    "standard": Budget(),
    "full": Budget(records=5000, steps=100, restarts=5, queries=5000, attacks=attacks_of("full")),
}
"""How much the adversary may spend, by name."""
