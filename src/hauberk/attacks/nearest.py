"""What white-box attacks share that look for the smallest change: the nearest wrong answers, and the last look at them.

Such an attack may evaluate points beyond the radius, for the way to the nearest wrong answer can lead through them, but
none outside the box, and none that is not repaired. What it returns lies within the threat model.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hauberk.attacks import judge as judging
from hauberk.attacks.base import Aim, Attack, Features, Knowledge
from hauberk.attacks.batch import Batch, in_batches, without_ball
from hauberk.attacks.gradient import WhiteBox, still
from hauberk.attacks.judge import Judge, Targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError

_BISECTIONS = 10
"""Halvings of the way between a record and its nearest wrong answer in the end: down to a thousandth of it."""


class Nearest:
    """The nearest wrong answer seen for each record, updated in place.

    Args:
        everything: All records.
        judge: The attacked model's.
        euclidean: Whether distances are L2; L-infinity otherwise. Columns of one-hot groups are not measured.
    """

    def __init__(self, everything: Batch, judge: Judge, *, euclidean: bool) -> None:
        self.points = everything.records.clone()
        self.distance = torch.full((len(everything),), torch.inf)
        self.queries = torch.zeros(len(everything), dtype=torch.int64)
        self.euclidean = euclidean
        self._everything = everything
        self._judge = judge
        self._measured = torch.ones(everything.threat.width, dtype=torch.bool)
        for group in everything.threat.groups:
            self._measured[group.start : group.stop] = False

    def see(self, rows: Tensor, points: Tensor, headroom: Tensor) -> Tensor:
        """Take note of points [n, D] of the records `rows`; bool [n], which of them are answered wrong."""
        fooled = judging.fooled(self._judge, headroom, self._everything.targets[rows])
        distance = self.length(points - self._everything.records[rows])
        nearer = fooled & (distance < self.distance[rows])
        self.points[rows[nearer]], self.distance[rows[nearer]] = points[nearer], distance[nearer]
        self.queries[rows] += 1
        return fooled

    def length(self, moves: Tensor) -> Tensor:
        """The length [n] of moves [n, D], in the norm of this search."""
        measured = moves * self._measured
        return measured.norm(dim=1) if self.euclidean else measured.abs().amax(dim=1)


@dataclass(frozen=True, kw_only=True)
class NearestAttack(Attack[WhiteBox]):
    """A white-box attack that looks for the smallest change.

    Attributes:
        early_stopping: Leave a record alone once a wrong answer is found within the radius. Faster; the change is then
            not the smallest.
        batch_size: Records attacked together. It changes the speed, and results by rounding and random draws only.
    """

    knowledge: ClassVar[Knowledge] = "white-box"
    aim: ClassVar[Aim] = "nearest"

    early_stopping: bool = False
    batch_size: int = 1024

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"attack {self.name}: the batch size must be at least 1, not {self.batch_size}")

    @abstractmethod
    def _approach(
        self, model: WhiteBox, everything: Batch, nearest: Nearest, radius: float, generator: np.random.Generator
    ) -> None:
        """Look for wrong answers near the records that are answered right, and show them to `nearest`."""

    def _euclidean(self, threat: FeatureThreat) -> bool:
        """Whether the change is measured in L2."""
        return threat.norm == "l2"

    def _field(self, threat: FeatureThreat) -> FeatureThreat:
        """Where the search may look: anywhere in the box, unless a subclass stays in the ball."""
        return without_ball(threat)

    def _search(
        self,
        model: WhiteBox,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.int64]]:
        everything = Batch.of(self._field(threat), features, targets)
        nearest = Nearest(everything, model.judge, euclidean=self._euclidean(threat))
        everyone = torch.arange(len(features))
        self._look(model, everything, nearest, everyone, everything.records)
        wrong = nearest.distance == 0
        if not wrong.all() and (threat.radius or threat.norm == "none"):
            radius = threat.radius if threat.norm != "none" else float(np.finfo(np.float32).max)
            with still(model.module):
                self._approach(model, everything, nearest, radius, generator)
            self._bisect(model, everything, nearest, torch.nonzero(nearest.distance.isfinite() & ~wrong)[:, 0])
        # A wrong answer just beyond the radius may still be one when it is put on the edge.
        found = torch.nonzero(nearest.distance.isfinite() & ~wrong)[:, 0]
        legal = torch.from_numpy(threat.project(nearest.points[found].numpy(), features[found.numpy()]))
        adversarial = everything.records.clone()
        fooled = self._look(model, everything, nearest, found, legal)
        adversarial[found[fooled]] = legal[fooled]
        return threat.project(adversarial.numpy(), features), nearest.queries.numpy()

    def _look(self, model: WhiteBox, everything: Batch, nearest: Nearest, rows: Tensor, points: Tensor) -> Tensor:
        """Evaluate legal points [n, D] of the records `rows`; bool [n], which are answered wrong."""
        fooled = torch.zeros(len(rows), dtype=torch.bool)
        for part in in_batches(torch.arange(len(rows)), self.batch_size):
            with torch.no_grad():
                headroom = model.headroom_of(points[part], everything.targets[rows[part]])
            fooled[part] = nearest.see(rows[part], points[part], headroom)
        return fooled

    def _bisect(self, model: WhiteBox, everything: Batch, nearest: Nearest, rows: Tensor) -> None:
        """Halve the way from each record to its nearest wrong answer, again and again."""
        batch, far = everything.take(rows), nearest.points[rows].clone()
        low, high = torch.zeros(len(rows), 1), torch.ones(len(rows), 1)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            points = batch.legal(batch.within(torch.lerp(batch.records, far, middle)))
            fooled = self._look(model, everything, nearest, rows, points)[:, None]
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
