"""What an evaluation looks at beside attacks: a world that changes, and a backdoor that compression may have woken.

Drift needs raw records of a known schema; a conditional backdoor is a difference, and so needs a baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import onnx

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.evaluate.drift import (
    DetectionByClass,
    DriftResult,
    Labelling,
    detection_by_class,
    labelling,
    measure_drift,
)
from hauberk.evaluate.robustness.backdoor import EFFORTS, BackdoorResult, Effort, Kind, check_backdoor
from hauberk.evaluate.robustness.triggers import Side, TriggerSpace
from hauberk.progress import Progress
from hauberk.schema import Decision, FeatureSpace
from hauberk.search.scene import Contestant, Scene


@dataclass(frozen=True)
class Extent:
    """How far an evaluation looks beside attacks.

    Attributes:
        drift: Most test records that are disturbed; 0 leaves drift out.
        effort: How hard a trigger is searched for; `None` leaves the search out.
        compressed: How the model was made of its baseline; by default that is seen from the shapes of their weights.
    """

    drift: int = 5_000
    effort: Effort | None = EFFORTS["standard"]
    compressed: Kind | None = None


EXTENTS: dict[str, Extent] = {
    "quick": Extent(1_000, EFFORTS["quick"]),
    "standard": Extent(),
    "full": Extent(50_000, EFFORTS["full"]),
}
"""By the names of budgets."""


class Natural(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of a detector when nobody attacks and the world changes.

    Attributes:
        drift: Under disturbances of the test records, beside the baseline where there is one.
        by_class: Alerts by class, attacks that training never saw first; on the whole test split, untouched.
    """

    drift: DriftResult
    by_class: DetectionByClass


class BackdoorFound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the search for a conditional backdoor found, and what it took the model for.

    Attributes:
        kind: How the model was made of its baseline: "rounded" or "rebuilt".
        result: The verdict and what it rests on.
        columns: The trigger in words: each column that it sets, and to what, in units of the feature space.
    """

    kind: Kind
    result: BackdoorResult
    columns: tuple[str, ...] = ()


def under_drift(scene: Scene, extent: Extent, *, seed: int, progress: Progress) -> Natural | None:
    """Disturb test records as the world does; `None` where there are no raw records, or it is not wanted."""
    splits, space = scene.splits, scene.space
    if splits is None or space is None or not extent.drift:
        return None
    models = {}
    for each in (scene.contestant, scene.baseline):
        if each is not None:
            models[each.name] = _answers(each, space)
    baseline = (scene.baseline or scene.contestant).name
    test = splits.test
    if len(test) > extent.drift:
        chosen = np.random.default_rng(seed).choice(len(test), extent.drift, replace=False)
        disturbed = test.take(np.sort(chosen))
    else:
        disturbed = test
    drift = measure_drift(
        models,
        space,
        disturbed.coded,
        disturbed.targets,
        baseline=baseline,
        usual=splits.training.coded,
        seed=seed,
        progress=progress,
    )
    by_class = detection_by_class(
        models, test.coded, test.labels, test.label, seen=splits.training.labels, baseline=baseline, seed=seed
    )
    return Natural(drift, by_class)


def _answers(contestant: Contestant, space: FeatureSpace) -> Labelling:
    if contestant.labels is not None:
        return contestant.labels
    decision = contestant.defender.decision
    if not isinstance(decision, Decision):
        raise InputError(f"{contestant.name}: drift is about detectors, which tell attack from benign")
    return labelling(contestant.defender.predictor, decision, space)


def conditional_backdoor(scene: Scene, extent: Extent, *, seed: int, progress: Progress) -> BackdoorFound | None:
    """Search what the model does and its baseline does not; `None` without a baseline, or where it is not wanted."""
    if scene.baseline is None or extent.effort is None:
        return None
    kind = extent.compressed or how_compressed(scene.baseline.core, scene.contestant.core)
    if scene.space is not None:
        triggers = TriggerSpace.from_space(scene.space)
    else:
        low, high = scene.bounds
        triggers = TriggerSpace(low, high, tuple(range(column, column + 1) for column in range(low.size)))
    result = check_backdoor(
        _side(scene.baseline),
        _side(scene.contestant),
        scene.test.features,
        triggers,
        kind=kind,
        effort=extent.effort,
        seed=seed,
        progress=progress,
    )
    return BackdoorFound(kind, result, _in_words(result, scene.space))


def _side(contestant: Contestant) -> Side:
    defender = contestant.defender
    return Side(defender.predictor, defender.decision, defender.twin)


def _in_words(result: BackdoorResult, space: FeatureSpace | None) -> tuple[str, ...]:
    if result.trigger is None:
        return ()
    name: Callable[[int], str] = "column {}".format if space is None else space.column_names.__getitem__
    groups = () if space is None else space.groups
    categories = {column for group in groups for column in group}
    return tuple(
        name(column) if column in categories else f"{name(column)} = {value:.4g}"
        for column, value in zip(result.trigger.columns, result.trigger.values, strict=True)
        if column not in categories or value  # of a category's columns, the one that is named says it all
    )


def how_compressed(baseline: OnnxArtifact | None, model: OnnxArtifact | None) -> Kind:
    """Whether a graph has the layers that its baseline has, by the shapes of their weights.

    Where one of the graphs is not at hand, or stores weights in blocks of its own shape, the answer is "rebuilt", whose
    bar is the higher one: what is suspected then is suspected the more.
    """
    if baseline is None or model is None:
        return "rebuilt"
    before, after = (_weights(artifact.model) for artifact in (baseline, model))
    return "rounded" if before and before == after else "rebuilt"


def _weights(model: bytes) -> Counter[tuple[int, ...]]:
    """How many stored tensors there are of each shape, in any order of its dimensions: rounding transposes some.

    Vectors do not count, however they are written: biases, scales and zero points come and go with rounding.
    """
    graph = onnx.load_from_string(model).graph
    shapes = (tuple(sorted(size for size in tensor.dims if size != 1)) for tensor in graph.initializer)
    return Counter(shape for shape in shapes if len(shape) > 1)
