"""Which parts of a graph come and go together: the dependency graph of channels, heads and hidden units.

The graph is walked once, operator by operator (`rules.py`); every operator says which elements of its inputs belong
to which elements of its outputs. What an operator cannot lose is frozen, with the reason; so is everything that reaches
an operator that is not understood. The idea of grouping by dependencies is that of Fang et al. 2023, "DepGraph: Towards
Any Structural Pruning" (arXiv:2301.12900); theirs works on torch modules, this one on the ONNX graph, element by
element.

A unit is **exactly removable**: where the weights that read it are zero, taking it out changes no output.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hauberk.compress.prune.analysis import Analysis, Attention, Place
from hauberk.compress.prune.prepare import PlainGraph
from hauberk.compress.prune.rules import apply_rule
from hauberk.compress.prune.units import Labels, Units, varying

THE_ANSWERS = "they are the model's answers"
"""Why the units of the last layer stay."""


@dataclass(frozen=True)
class Group:
    """Units that lie in the same places: the output channels of a layer, the heads of an attention layer.

    Attributes:
        name: The constant that makes the units; of several, the first in the graph.
        units: Numbers of the units, int64 [U].
        places: Where they lie.
    """

    name: str
    units: Labels
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Dependencies:
    """What can be removed from a graph, and what cannot and why.

    Attributes:
        graph: The graph that this is about.
        groups: What can be removed, in graph order.
        frozen: By constant, why the units that it makes stay; only where none of them can go.
        labels: By tensor, canonical labels; 0-size where a tensor has none.
        axes: By place, the unit of each position along that axis.
        contracted: Constants whose product with an activation is taken: matrices and kernels, not biases.
    """

    graph: PlainGraph
    groups: tuple[Group, ...]
    frozen: Mapping[str, str]
    labels: Mapping[str, Labels]
    axes: Mapping[Place, Labels]
    contracted: frozenset[str]


def analyse(graph: PlainGraph, *, attention: Attention = "heads") -> Dependencies:
    """Find what can be removed from a graph.

    Args:
        graph: A core in plain form.
        attention: What to remove of attention layers.
    """
    analysis = Analysis(graph, attention)
    features = graph.model.graph.input[0].name
    analysis.labels[features] = analysis.units.fixed(len(graph.shapes[features]), "it is as wide as the model's input")
    for node in graph.model.graph.node:
        apply_rule(analysis, node)
    for value in graph.model.graph.output:
        analysis.units.freeze(analysis.of(value.name), THE_ANSWERS)
    _settle(analysis)
    return _result(analysis)


def _settle(analysis: Analysis) -> None:
    """Tie and freeze until what is left can go from every tensor along one axis, and never all of it."""
    units = analysis.units
    settled = False
    while not settled:
        settled = True
        for name, raw in analysis.labels.items():
            labels = _only_live(units, raw)
            if len(varying(labels)) > 1:
                _choose_axis(analysis, name, raw)
                settled = False
            elif varying(labels) and varying(labels)[0] in analysis.pinned.get(name, ()):
                units.freeze(raw, f"positions along axis {varying(labels)[0]} of {name!r} are named")
                settled = False
            elif not varying(labels) and labels.ravel()[0] >= 0:
                units.freeze(raw, f"they are all that {name!r} holds")
                settled = False
        for place, raw in analysis.axes.items():
            labels = _only_live(units, raw)
            if not varying(labels) and labels.size and labels[0] >= 0:
                units.freeze(raw, f"they are all that {place.constant!r} has along axis {place.axis}")
                settled = False


def _only_live(units: Units, labels: Labels) -> Labels:
    """Canonical labels with -1 for whatever is frozen."""
    roots = np.where(units.live(labels), units.roots(labels), -1)
    for axis in range(roots.ndim):
        first = np.take(roots, [0], axis)
        if roots.shape[axis] > 1 and bool((roots == first).all()):
            roots = first
    return roots


def _choose_axis(analysis: Analysis, name: str, raw: Labels) -> None:
    """Labels that depend on two axes can go along one of them only: the one that leaves most units apart."""
    units = analysis.units
    axes = varying(_only_live(units, raw))
    choices = [axis for axis in axes if axis not in analysis.pinned.get(name, ())]
    if not choices:
        units.freeze(raw, f"positions of {name!r} are named")
        return

    def apart(kept: int) -> int:
        return _components(np.moveaxis(units.roots(raw), kept, 0), units)

    kept = max(choices, key=apart)
    units.tie_along(raw, tuple(axis for axis in axes if axis != kept))


def _components(rows: Labels, units: Units) -> int:
    """How many live units would be left if each row became one unit."""
    trial = Units()
    numbers, flat = np.unique(rows, return_inverse=True)
    labels = trial.fresh(len(numbers))[flat.reshape(len(rows), -1)]
    trial.tie_along(labels, (1,))
    frozen = trial.roots(np.flatnonzero(~units.live(numbers)).astype(np.int64))
    return len(np.setdiff1d(trial.roots(labels), frozen))


def _result(analysis: Analysis) -> Dependencies:
    """Sort live units into groups by where they lie."""
    units = analysis.units
    axes = {place: units.roots(labels) for place, labels in analysis.axes.items()}
    where: dict[int, list[tuple[Place, int]]] = defaultdict(list)
    for place, labels in axes.items():
        numbers, counts = np.unique(labels[units.live(labels)], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            where[number].append((place, count))
    alike: dict[tuple[tuple[Place, int], ...], list[int]] = defaultdict(list)
    for number, places in where.items():
        if any(place.constant in analysis.made for place, _ in places):
            alike[tuple(places)].append(number)
    order = {name: index for index, name in enumerate(analysis.made)}
    groups = [_group(tuple(place for place, _ in places), numbers, analysis) for places, numbers in alike.items()]
    groups.sort(key=lambda group: (order.get(group.name, len(order)), int(group.units[0])))
    return Dependencies(
        graph=analysis.graph,
        groups=tuple(_unique_names(groups)),
        frozen=_reasons(analysis),
        labels={name: _only_live(units, labels) for name, labels in analysis.labels.items()},
        axes=axes,
        contracted=frozenset(analysis.made),
    )


def _group(places: tuple[Place, ...], numbers: list[int], analysis: Analysis) -> Group:
    makers = [place.constant for place in places if analysis.made.get(place.constant, -1) == place.axis]
    others = [place.constant for place in places if place.constant in analysis.made]
    order = list(analysis.made)
    return Group(min(makers or others, key=order.index), np.array(sorted(numbers), np.int64), places)


def _unique_names(groups: list[Group]) -> list[Group]:
    """Channels of one layer may lie in different places (a Split); number such groups."""
    seen: dict[str, int] = defaultdict(int)
    named = []
    for group in groups:
        seen[group.name] += 1
        suffix = f"#{seen[group.name]}" if seen[group.name] > 1 else ""
        named.append(Group(group.name + suffix, group.units, group.places))
    return named


def _reasons(analysis: Analysis) -> dict[str, str]:
    reasons = {}
    for name, axis in analysis.made.items():
        if axis >= 0 and not analysis.units.live(labels := analysis.axis(name, axis)).any():
            reasons[name] = analysis.units.reason(int(labels[0]))
    return reasons
