"""Fast training: records attacked in one step, at about twice the price of ordinary training.

A single step from the record (FGSM) can fail all of a sudden: the model learns to bend its surface so that this one
step misleads, and has no robustness against any other attack (catastrophic overfitting). Three remedies are here.
Noise of more than the radius before the step, without returning to the ball (N-FGSM; de Jorge et al. 2022,
arXiv:2202.01181); a step from a random point of the ball (Wong, Rice and Kolter 2020, arXiv:2001.03994); and gradient
alignment (Andriushchenko and Flammarion 2020, arXiv:2007.02617), which keeps the slope at a record like that beside it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hauberk.train.robust.adversary import Chance, TensorThreat, against, evaluated, slope_of
from hauberk.train.robust.method import Batch, RobustObjective, Setting

_TINY = 1e-12  # in place of the length of a slope of 0


class Fast(RobustObjective):
    """`H(y, p(x'))` and, with gradient alignment, `+ alignment * mean(1 - cos(slope at x, slope beside x))`."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._threat = TensorThreat(setting.threat)
        self._chance = Chance(setting.seed)

    def moved(self, module: nn.Module, batch: Batch) -> Tensor:
        """One step against the right answer; after noise, only a threat that is constrained has the last word."""
        options = self.setting.options
        reach = self._threat.around(batch.features)
        points = reach.records
        if options.start == "random":
            points = reach.anywhere(self._chance.of(batch.features.device))
        elif options.start == "noise":
            points = reach.noisy(options.noise, self._chance.of(batch.features.device))
        with evaluated(module):
            slope = reach.movable(
                slope_of(module, points.view(reach.shape), against(self.setting.judge, batch.targets)).flatten(1)
            )
        points = reach.step(points, slope, options.length)
        if options.start == "noise" and not reach.asked:
            return points.view(reach.shape)
        return reach.legal(reach.inside(points))

    def loss(self, module: nn.Module, batch: Batch, attacked: Tensor) -> Tensor:
        """See the class."""
        lost = self.cross_entropy(module, batch, attacked)
        weight = self.setting.options.alignment
        return lost + weight * self._misaligned(module, batch) if weight else lost

    def _misaligned(self, module: nn.Module, batch: Batch) -> Tensor:
        """`1 - cos` of the slopes at records and at random points beside them, after equation 5.

        The slopes are those of the headroom: in detection they point as the cross-entropy's do, and do not underflow
        where the model is sure. The slope at the record is a constant; the one beside it learns, as in the paper.
        """
        reach = self._threat.around(batch.features)
        beside = reach.anywhere(self._chance.of(batch.features.device)).view(reach.shape)
        aim = against(self.setting.judge, batch.targets)
        here = reach.movable(slope_of(module, batch.features, aim).flatten(1))
        there = reach.movable(slope_of(module, beside, aim, create_graph=True).flatten(1))
        similar = functional.cosine_similarity(here, there, dim=1, eps=_TINY)
        return (1 - similar).mean()
