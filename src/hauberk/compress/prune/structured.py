"""Structured pruning: channels, heads and hidden units go, and what is left is a smaller graph of the same kind."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import Core, read_core
from hauberk.compress.prune.allocate import (
    Allocation,
    Sensitivity,
    by_sensitivity,
    check_shares,
    least_important,
    over_all,
    sensitivities,
    uniform,
)
from hauberk.compress.prune.analysis import Attention
from hauberk.compress.prune.dependencies import THE_ANSWERS, Dependencies, Group, analyse
from hauberk.compress.prune.importance import Importance, Scores, importance
from hauberk.compress.prune.prepare import prepare
from hauberk.compress.prune.remove import remove
from hauberk.compress.smaller import check_smaller
from hauberk.compress.teaching import teachers_lesson
from hauberk.compress.tuning import Tuning, answers, tune
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, Contract, Lossy, Step

_MEASURED = 256  # records on which a sensitivity is measured


class PruneStructured(Step, frozen=True, kw_only=True, tag="prune-structured"):
    """Remove the least important channels, attention heads and hidden units, and train what is left.

    What belongs together goes together (see `hauberk.compress.prune.dependencies`); the model's input and its logits
    keep their width. The graph that results has fewer parameters, fewer operations and a smaller file, or the step
    fails.

    Attributes:
        amount: Share of units to remove, in (0, 1): of each group ("uniform") or of all together. Half of all channels
            is about a quarter of the operations.
        importance: By what units are ranked, see `hauberk.compress.prune.importance`.
        allocation: How the amount is spread over groups: "uniform"; "global", by importance relative to the group's
            mean; "sensitivity", so that each group alone would cost the same error of the logits, which is measured.
        layers: Share of single groups by name, 0 to leave one alone; overrides the allocation.
        attention: Whether whole heads go, or the same dimensions of every head.
        granularity: What is left of a group is rounded up to a multiple of this; 8 or 16 suit vector units.
        iterations: How often to prune and train; the amount is reached in geometric steps.
        tuning: How to train after each prune, taught by `Context.teacher` or else the graph as it was;
            `None` does not train.
    """

    amount: float = 0.5
    importance: Importance = "l1"
    allocation: Allocation = "uniform"
    layers: dict[str, float] = msgspec.field(default_factory=dict)
    attention: Attention = "heads"
    granularity: int = 1
    iterations: int = 1
    tuning: Tuning | None = Tuning()

    trains: ClassVar[bool] = True
    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.9)

    def __post_init__(self) -> None:
        check_shares(self.amount, self.layers, self.name)
        for name in ("granularity", "iterations"):
            if getattr(self, name) < 1:
                raise InputError(f"{self.name}: {name} is {getattr(self, name)}; 1 or more is right")

    @property
    def contract(self) -> Contract:
        """Decisions agree on 90 % of real records; logits are the trained graph's own."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """Layers before the logits that keep all their units, and why."""
        core = read_core(artifact, self.name)
        frozen = analyse(prepare(core.artifact, self.name), attention=self.attention).frozen
        return tuple(f"{name!r} keeps all units: {reason}" for name, reason in frozen.items() if reason != THE_ANSWERS)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the pruned graph; not trained where `context.trained` is False.

        Raises:
            InputError: Not a float core, nothing in it can be pruned, `layers` names no group, or there are no records
                to train on.
            ContractError: The result is not smaller in every respect.
        """
        core = read_core(artifact, self.name)
        core.require_float()
        first = self.groups(core.artifact)
        sizes = {group.name: len(group.units) for group in first.groups}
        if unknown := next((name for name in self.layers if name not in sizes), ""):
            raise InputError(f"{self.name}: there is no group {unknown!r}; groups are {', '.join(sizes)}")
        tuning = self.tuning if context.trained else None
        lesson = teachers_lesson(core.artifact, context, tuning, step=self.name) if tuning else None
        rounds = self.iterations if tuning else 1
        pruned = core.artifact
        for number in range(1, rounds + 1):
            pruned = self._round(pruned, context, sizes, number / rounds)
            if tuning:
                twin = Twin(pruned)
                tune(twin, context, tuning, step=self.name, lesson=lesson)
                pruned = twin.to_artifact()
        pruned = core.finished(read_core(pruned, self.name).model)
        check_smaller(core, pruned)
        return pruned

    def groups(self, artifact: OnnxArtifact) -> Dependencies:
        """What can be removed from a core.

        Raises:
            InputError: Nothing; the message says why.
        """
        found = analyse(prepare(artifact, self.name), attention=self.attention)
        if not any(len(group.units) > 1 for group in found.groups):
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(found.frozen.items())[:3])
            raise InputError(f"{self.name}: nothing to prune in this graph ({reasons or 'it has no constant weights'})")
        return found

    def sensitivities(self, artifact: Artifact, context: Context) -> tuple[Sensitivity, ...]:
        """What taking shares of each group alone costs, on calibration records.

        Raises:
            InputError: As `apply`, or records that do not fit.
        """
        core = read_core(artifact, self.name)
        found = self.groups(core.artifact)
        return self._sensitivities(core, found, self._scores(found, core.artifact, context), context)

    def _round(self, artifact: OnnxArtifact, context: Context, sizes: dict[str, int], progress: float) -> OnnxArtifact:
        """Prune until that part of the way is done: what is left shrinks by the same factor in every round."""
        core = read_core(artifact, self.name)
        found = self.groups(artifact)
        scores = self._scores(found, artifact, context)
        amount = 1 - (1 - self.amount) ** progress
        shares = self._shares(core, found, scores, sizes, amount, context)
        units: list[int] = []
        for group in found.groups:
            if group.name in self.layers:
                target = 1 - (1 - self.layers[group.name]) ** progress
            elif group.name in shares:
                target = shares[group.name]
            else:
                continue
            original = sizes.get(group.name, len(group.units))
            gone = round(target * original) - (original - len(group.units))
            order = scores.get(group.name, np.zeros(len(group.units)))
            width = _width(found, group)
            units += least_important(group, order, max(0, gone), width=width, granularity=self.granularity)
        return remove(core, found, units) if units else artifact

    def _shares(
        self,
        core: Core,
        found: Dependencies,
        scores: dict[str, Scores],
        sizes: dict[str, int],
        amount: float,
        context: Context,
    ) -> dict[str, float]:
        """By group, the share of its original units to be gone after this round."""
        free: dict[str, Scores] = {name: each for name, each in scores.items() if name not in self.layers}
        if not free or self.allocation == "uniform":
            return uniform(free, amount)
        present = {group.name: len(group.units) for group in found.groups}
        before = sum([sizes[name] for name in free])
        now = sum([present[name] for name in free])
        still = max(0.0, 1 - (1 - amount) * before / now)  # of what is there now
        if self.allocation == "global":
            shares = over_all(free, still)
        else:
            shares = by_sensitivity(self._sensitivities(core, found, free, context), present, still)
        return {name: 1 - (1 - share) * present[name] / sizes[name] for name, share in shares.items()}

    def _scores(self, found: Dependencies, artifact: OnnxArtifact, context: Context) -> dict[str, Scores]:
        """Importance of every unit; what needs gradients is not asked for when only the shape matters."""
        kind: Importance = "l1" if self.importance == "taylor" and not context.trained else self.importance
        return importance(kind, found, artifact, context, self.name)

    def _sensitivities(
        self, core: Core, found: Dependencies, scores: dict[str, Scores], context: Context
    ) -> tuple[Sensitivity, ...]:
        records = core.calibration(context)[:_MEASURED]
        whole = answers(core.artifact, records).astype(np.float64)
        scale = max(float(np.sqrt(np.mean(np.square(whole)))), float(np.finfo(np.float32).tiny))

        def cost(units: list[int]) -> float:
            less = answers(remove(core, found, units), records)
            return float(np.sqrt(np.mean(np.square(less - whole)))) / scale

        return sensitivities(found, scores, cost)


def _width(found: Dependencies, group: Group) -> int:
    """Positions that one unit of a group takes where it takes fewest."""
    return min(int(np.count_nonzero(found.axes[place] == group.units[0])) for place in group.places)
