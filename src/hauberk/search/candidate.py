"""What a search starts from, and the candidates that it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hauberk.artifact import OnnxArtifact
from hauberk.attacks import FeatureThreat
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.graph.decision import decision_graph
from hauberk.graph.deploy import deploy
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.measurement import Measurement
from hauberk.recipe import Context, LabelledFeatures, Recipe
from hauberk.schema import Coded, Decision, FeatureSpace
from hauberk.search.choose import Contender

_GLANCE = 1024
"""Examples that a graph is compared on while candidates come and go."""


@dataclass(frozen=True)
class Subject:
    """What a search starts from.

    Attributes:
        core: The optimised float32 core graph, features [N, D] to logits [N, K].
        space: How records become features.
        decision: How logits become a margin; its threshold is set for each candidate.
        context: Records to calibrate, train and validate with.
        validation: The records that candidates are compared on.
        examples: The same records as the deployed graph takes them, for timing.
        false_positive_rate: Where the alarm threshold lies, as a fraction of benign validation records.
        threat: How far an adversary can move a record.
        budget: How much the adversary may spend.
        timing: Seconds of timing for each candidate.
        unseen: Whether the detector is known not to have been trained on the test records.
        seed: Seed of everything random.
        substitute: A network in evaluation mode that learned the core's answers, where the core has no gradient.
        remarks: What a reader must know of the core, one sentence each.
    """

    core: OnnxArtifact
    space: FeatureSpace
    decision: Decision
    context: Context
    validation: LabelledFeatures
    examples: Coded
    false_positive_rate: float
    threat: FeatureThreat
    budget: Budget
    timing: float
    unseen: bool
    seed: int
    substitute: nn.Module | None = None
    remarks: tuple[str, ...] = ()

    def deploy(self, core: OnnxArtifact, decision: Decision) -> OnnxArtifact:
        """Preprocessing, a core and a decision as the one optimised graph that is timed, signed and served.

        Compared with its three parts on the first of the examples; `deploy_verified` does so on all of them.

        Raises:
            ContractError: The merged graph answers something else than its parts.
        """
        return self._deployed(core, decision, _GLANCE)

    def deploy_verified(self, core: OnnxArtifact, decision: Decision) -> OnnxArtifact:
        """The same, compared on all of the examples; the merge and every pass since are in its history.

        Raises:
            ContractError: The merged graph answers something else than its parts.
        """
        return self._deployed(core, decision, len(self.examples.numeric))

    def _deployed(self, core: OnnxArtifact, decision: Decision, count: int) -> OnnxArtifact:
        front = preprocessing_graph(self.space)
        tensors: dict[str, NDArray[np.generic]] = {"numeric": self.examples.numeric, "codes": self.examples.codes}
        records = {spec.name: tensors[spec.name][:count] for spec in front.signature.inputs}
        parameters = {"threshold": decision.threshold}
        return deploy(front, core, decision_graph(decision), records, parameters=parameters)


@dataclass(frozen=True)
class Candidate:
    """A recipe, what it made, and what was measured of it so far.

    Attributes:
        recipe: The recipe.
        core: The core graph that it made, trained or not.
        decision: With the candidate's own threshold; the subject's until it has been set.
        deployable: The merged graph.
        measurements: By metric name.
        thresholds: On the margin, by the false-positive rate that they were set for; empty until they are.
        dropped: Why it is not worth measuring further; empty while it is.
    """

    recipe: Recipe
    core: OnnxArtifact
    decision: Decision
    deployable: OnnxArtifact
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    thresholds: Mapping[float, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def undone(self) -> tuple[str, ...]:
        """One sentence for every step of the recipe that broke its contract and was undone.

        What was undone before, while the baseline was cleaned up, is part of every candidate's history and speaks
        against none of them.
        """
        history = self.core.history
        return tuple(
            f"step {record.step} was undone: {record.verdict.reason}"
            for record in history[len(history) - len(self.recipe.steps) :]
            if not record.kept and record.verdict is not None
        )

    def measured(self, *measurements: Measurement) -> Candidate:
        """The same candidate with more measurements; newer ones replace older ones of the same name."""
        added = {measurement.name: measurement for measurement in measurements}
        return replace(self, measurements={**self.measurements, **added})

    def drop(self, *reasons: str) -> Candidate:
        """The same candidate, not worth measuring further."""
        return replace(self, dropped=(*self.dropped, *reasons))

    def contender(self) -> Contender:
        """The candidate as the choice sees it."""
        return Contender(self.name, self.measurements, self.undone)
