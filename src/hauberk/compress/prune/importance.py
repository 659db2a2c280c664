"""How much each unit matters, by five measures; the least important go first.

| measure | a unit's importance |
| --- | --- |
| `l1` | sum of absolute weights that make or read it (Li et al. 2017, arXiv:1608.08710, over all tied layers) |
| `l2` | root of the sum of their squares |
| `taylor` | squared sum of gradient times weight, a batch (Molchanov et al. 2019, arXiv:1906.10771, eq. 8) |
| `batchnorm` | absolute scale of its batch normalisation (Liu et al. 2017, arXiv:1708.06519) |
| `random` | drawn at random: the control that any measure must beat |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact
from hauberk.compress.prune.dependencies import Dependencies, Group
from hauberk.compress.teaching import hard_loss
from hauberk.compress.tuning import answers
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.graph.verify import decisions
from hauberk.recipe import Context, LabelledFeatures

Importance = Literal["l1", "l2", "taylor", "batchnorm", "random"]
Scores = NDArray[np.float64]

_BATCH = 64
_MOST_RECORDS = 1024


def importance(
    kind: Importance, dependencies: Dependencies, artifact: OnnxArtifact, context: Context, step: str
) -> dict[str, Scores]:
    """Score every unit.

    Args:
        kind: The measure.
        dependencies: Of the artifact's graph in plain form.
        artifact: The core.
        context: Its training records (calibration records with the core's own decisions where there are none) are what
            `taylor` looks at; its seed decides `random`.
        step: Who asks, for messages.

    Returns:
        By group, one score a unit, each at least 0. Under `batchnorm`, groups without a batch normalisation are left
        out.

    Raises:
        InputError: `batchnorm`, and the graph has no batch normalisation.
    """
    if kind == "random":
        generator = np.random.default_rng(context.seed)
        return {group.name: generator.random(len(group.units)) for group in dependencies.groups}
    if kind == "batchnorm":
        return _scales(dependencies, step)
    if kind == "taylor":
        return _gradients(dependencies, artifact, context)
    constants = {name: np.asarray(dependencies.graph.constants[name], np.float64) for name in dependencies.contracted}
    if kind == "l1":
        return _summed(dependencies, {name: np.abs(array) for name, array in constants.items()})
    squares = _summed(dependencies, {name: np.square(array) for name, array in constants.items()})
    return {name: np.sqrt(scores) for name, scores in squares.items()}


def _summed(dependencies: Dependencies, values: Mapping[str, NDArray[np.float64]]) -> dict[str, Scores]:
    """Sum values over all places of each unit."""
    return {group.name: _of_group(dependencies, group, values) for group in dependencies.groups}


def _of_group(dependencies: Dependencies, group: Group, values: Mapping[str, NDArray[np.float64]]) -> Scores:
    scores = np.zeros(len(group.units))
    for place in group.places:
        if place.constant not in values:
            continue
        array = values[place.constant]
        along = array.sum(axis=tuple(axis for axis in range(array.ndim) if axis != place.axis))
        labels = dependencies.axes[place]
        mine = np.isin(labels, group.units)
        np.add.at(scores, np.searchsorted(group.units, labels[mine]), along[mine])
    return scores


def _scales(dependencies: Dependencies, step: str) -> dict[str, Scores]:
    scales = {
        node.input[1]: np.abs(np.asarray(dependencies.graph.constants[node.input[1]], np.float64))
        for node in dependencies.graph.model.graph.node
        if node.op_type == "BatchNormalization" and node.input[1] in dependencies.graph.constants
    }
    groups = [group for group in dependencies.groups if any(place.constant in scales for place in group.places)]
    if not groups:
        raise InputError(
            f"{step}: importance 'batchnorm' needs batch normalisation in the graph, and torch's exporter folds it"
            " away; use 'l1', 'l2' or 'taylor'"
        )
    return {group.name: _of_group(dependencies, group, scales) for group in groups}


def _gradients(dependencies: Dependencies, artifact: OnnxArtifact, context: Context) -> dict[str, Scores]:
    """Squared change of the loss, to first order, if a unit's weights were zero; averaged over batches."""
    twin = Twin(replace(artifact, model=dependencies.graph.model.SerializeToString()))
    held = {name: twin.tensor(name) for name in dependencies.contracted}
    scores = {group.name: np.zeros(len(group.units)) for group in dependencies.groups}
    records = _records(artifact, context)
    outputs = int(artifact.signature.outputs[0].shape[1])
    weights = torch.ones(outputs if context.task == "classification" else 2)
    loss = hard_loss(context, weights)
    threads = torch.get_num_threads()
    torch.set_num_threads(context.threads)
    try:
        for start in range(0, len(records), _BATCH):
            batch = slice(start, start + _BATCH)
            features, targets = (torch.from_numpy(part[batch]) for part in (records.features, records.targets))
            answer = loss(twin(features), targets)
            gradients = torch.autograd.grad(answer, list(held.values()))
            products = {
                name: (weight.detach() * gradient).numpy().astype(np.float64)
                for (name, weight), gradient in zip(held.items(), gradients, strict=True)
            }
            for name, change in _summed(dependencies, products).items():
                scores[name] += np.square(change) / -(-len(records) // _BATCH)
    finally:
        torch.set_num_threads(threads)
    return scores


def _records(artifact: OnnxArtifact, context: Context) -> LabelledFeatures:
    """Up to `_MOST_RECORDS` training records; where there are none, calibration records and what the core decides."""
    available = context.training
    if available is None:
        available = LabelledFeatures(context.calibration, decisions(answers(artifact, context.calibration), context))
    return available.sample(_MOST_RECORDS, context.seed)
