"""Which units go: how much of each group, and of a group the least important."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hauberk.compress.prune.dependencies import Dependencies, Group
from hauberk.compress.prune.importance import Scores
from hauberk.errors import InputError

Allocation = Literal["uniform", "global", "sensitivity"]

LARGEST_SHARE = 0.9
"""The most of a group that an allocation takes by itself; a layer of a few channels lets nothing through."""

TRIED = (0.25, 0.5, 0.75)
"""Shares of each group whose removal, alone, is measured for a sensitivity."""


def check_shares(amount: float, layers: Mapping[str, float], step: str) -> None:
    """Refuse shares that nobody can remove.

    Args:
        amount: Of all that can be pruned, in (0, 1).
        layers: Of single parts by name, in [0, 1).
        step: Who asks, for messages.

    Raises:
        InputError: One of them lies outside; the message says which.
    """
    if not 0 < amount < 1:
        raise InputError(f"{step}: amount is {amount}; a share above 0 and below 1 is needed")
    for name, share in layers.items():
        if not 0 <= share < 1:
            raise InputError(f"{step}: the share of {name!r} is {share}; from 0 to below 1 is right")


@dataclass(frozen=True)
class Sensitivity:
    """What taking shares of one group costs when every other group stays whole.

    Attributes:
        group: Name of the group.
        shares: Shares that were removed, in ascending order.
        errors: Root-mean-square difference of the logits, as a fraction of their root mean square, for each share.
    """

    group: str
    shares: tuple[float, ...]
    errors: tuple[float, ...]

    def share_at(self, error: float) -> float:
        """The largest share that costs at most `error`, interpolated between those measured; errors never fall.

        It jumps where shares cost the same. Below an error of 0 it is 0.
        """
        if error < 0:
            return 0.0
        errors = np.maximum.accumulate((0.0, *self.errors))
        shares = (0.0, *self.shares)
        if error >= errors[-1]:
            return shares[-1]
        after = int(np.searchsorted(errors, error, side="right"))
        width = errors[after] - errors[after - 1]
        return float(shares[after - 1] + (shares[after] - shares[after - 1]) * (error - errors[after - 1]) / width)


def sensitivities(
    dependencies: Dependencies, scores: Mapping[str, Scores], cost: Callable[[list[int]], float]
) -> tuple[Sensitivity, ...]:
    """Remove shares of each group alone and measure what that costs.

    Args:
        dependencies: What can be removed.
        scores: Importance of the units of each group that may be pruned.
        cost: Error of the graph without these units.
    """
    found = []
    for group in dependencies.groups:
        if group.name in scores and len(group.units) > 1:
            least = group.units[np.argsort(scores[group.name], kind="stable")]
            counts = [max(1, min(len(least) - 1, math.floor(share * len(least)))) for share in TRIED]
            errors = tuple(cost(least[:count].tolist()) for count in counts)
            found.append(Sensitivity(group.name, tuple(count / len(least) for count in counts), errors))
    return tuple(found)


def uniform(scores: Mapping[str, Scores], amount: float) -> dict[str, float]:
    """The same share of every group."""
    return dict.fromkeys(scores, amount)


def over_all(scores: Mapping[str, Scores], amount: float) -> dict[str, float]:
    """Shares by which the least important units of all groups together go.

    Scores are divided by their group's mean first, since the sums of wide and narrow layers do not compare. Of units
    that count the same, those go first of whose groups less has gone.

    Args:
        scores: Importance of the units of every group, at least 0.
        amount: Share of all units, in [0, 1].
    """
    relative = [each / each.mean() if each.mean() > 0 else each for each in scores.values()]
    sizes = [len(each) for each in relative]
    # The place of a unit among those of its group, as a share: by this groups that are alike lose alike.
    places = [np.argsort(np.argsort(each, kind="stable")) / len(each) for each in relative]
    order = np.lexsort((np.concatenate(places), np.concatenate(relative)))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    gone = np.bincount(owner[order[: round(amount * len(order))]], minlength=len(sizes))
    return {
        name: min(LARGEST_SHARE, count / size) for name, count, size in zip(scores, gone.tolist(), sizes, strict=True)
    }


def by_sensitivity(found: tuple[Sensitivity, ...], sizes: Mapping[str, int], amount: float) -> dict[str, float]:
    """Shares at which every group costs the same, together the wanted amount of all units; found by bisection.

    Where that error is the same for several shares of a group (nothing is lost by taking any of them, say), such groups
    go the same part of the way from the least to the largest of these.

    Args:
        found: What shares of each group cost.
        sizes: Units of each group.
        amount: Wanted share of all their units, in (0, 1). Where even the largest shares tried fall short, those.
    """
    wanted = amount * sum(sizes[each.group] for each in found)

    def taken(error: float) -> float:
        return sum(each.share_at(error) * sizes[each.group] for each in found)

    low, high = -1.0, max((max(each.errors) for each in found), default=0.0)
    for _ in range(80):
        middle = (low + high) / 2
        if taken(middle) < wanted:
            low = middle
        else:
            high = middle
    fewer, more = taken(low), taken(high)
    part = min(1.0, (wanted - fewer) / (more - fewer)) if more > fewer else 1.0
    shares = {each.group: (each.share_at(low), each.share_at(high)) for each in found}
    return {group: least + part * (largest - least) for group, (least, largest) in shares.items()}


def least_important(group: Group, scores: Scores, gone: int, *, width: int, granularity: int) -> list[int]:
    """The units of a group to remove.

    Args:
        group: The group.
        scores: Importance of its units.
        gone: How many of them should go.
        width: Positions that one unit takes along the axis that it lies on.
        granularity: What is left is rounded up to a multiple of this many positions, and is never empty.
    """
    step = granularity // math.gcd(granularity, width)
    kept = max(1, math.ceil((len(group.units) - gone) / step)) * step
    order = np.argsort(scores, kind="stable")
    least: list[int] = group.units[order[: max(0, len(order) - kept)]].tolist()
    return least
