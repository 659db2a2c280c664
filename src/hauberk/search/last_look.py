"""The one look at the test split: the recommended candidate and the baseline, and nothing is chosen after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact
from hauberk.data import Splits
from hauberk.evaluate.quality import ClassFigures, class_figures
from hauberk.measurement import Measurement
from hauberk.progress import SILENT, Progress
from hauberk.requirements import Outcome, Requirement
from hauberk.search import measuring
from hauberk.search.candidate import Candidate, Subject
from hauberk.search.choose import lost_quality
from hauberk.search.run import SearchResult
from hauberk.train import labelled


@dataclass(frozen=True)
class LastLook:
    """What the test split showed.

    Attributes:
        test: Measurements of the recommended candidate, by metric name.
        baseline: The same of the baseline.
        outcomes: Every requirement, judged on test figures where they depend on data, else on those of the search.
        lost: A sentence for every quality that the recommended candidate lost here, against the baseline and beyond the
            95 % bound, while no requirement speaks of it. Nothing is chosen again for it, but it is told.
        classes: Per-class figures of the recommended candidate.
        margins: Float32 [N], what the recommended candidate answered.
        deployable: The recommended candidate's merged graph, verified against its three parts.
    """

    test: Mapping[str, Measurement]
    baseline: Mapping[str, Measurement]
    outcomes: tuple[Outcome, ...]
    lost: tuple[str, ...]
    classes: tuple[ClassFigures, ...]
    margins: NDArray[np.float32]
    deployable: OnnxArtifact

    @property
    def met(self) -> bool:
        """Whether every requirement holds."""
        return all(outcome.holds for outcome in self.outcomes)


def look_once(
    subject: Subject,
    result: SearchResult,
    splits: Splits,
    requirements: Sequence[Requirement],
    *,
    progress: Progress = SILENT,
) -> LastLook:
    """Measure the recommended candidate and the baseline on the test split."""
    records = labelled(subject.space, splits.test)
    recommended, baseline = result.recommended, result.baseline
    compared = baseline if recommended is not baseline else None
    pair: tuple[Candidate, ...] = (baseline,) if compared is None else (baseline, recommended)
    robust = measuring.robustness(subject, pair, records, progress).accuracy
    test = measuring.quality(subject, recommended, compared, records)
    test["robust_accuracy"] = robust[recommended.name]
    test_baseline = measuring.quality(subject, baseline, None, records)
    test_baseline["robust_accuracy"] = robust[baseline.name]
    margins = measuring.margins(recommended, records.features)
    labels = (margins >= np.float32(recommended.decision.threshold)).astype(np.int64)
    label = splits.test.label
    return LastLook(
        test=test,
        baseline=test_baseline,
        outcomes=tuple(requirement.judge({**recommended.measurements, **test}) for requirement in requirements),
        lost=lost_quality(test, requirements),
        classes=class_figures(
            labels, splits.test.labels, label.classes, benign=label.benign, seen=np.unique(splits.training.labels)
        ),
        margins=margins,
        deployable=subject.deploy_verified(recommended.core, recommended.decision),
    )
