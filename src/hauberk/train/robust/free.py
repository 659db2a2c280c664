"""Free adversarial training: the gradient that trains the weights attacks the records, too.

Shafahi et al. 2019, "Adversarial Training for Free!" (arXiv:1904.12843), algorithm 1: a batch is gone over several
times; each time one backward pass gives the slope with respect to the weights, which the optimiser takes, and that with
respect to the records' moves, which take a step up before the batch comes again. Moves are kept for the next batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hauberk.train.robust.adversary import Reach, TensorThreat
from hauberk.train.robust.method import Batch, RobustObjective, Setting


class Free(RobustObjective):
    """`H(y, p(x + d))`, whose backward pass leaves the slope with respect to d where the next call finds it."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.replays = setting.options.replays
        self._threat = TensorThreat(setting.threat)
        self._moves: Tensor | None = None
        self._last: tuple[Reach, Tensor] | None = None

    def moved(self, module: nn.Module, batch: Batch) -> Tensor:  # noqa: ARG002 - the slope is there already
        """The records with the moves that earlier passes found; a leaf of the graph, to gather its slope."""
        self._learn_moves()
        reach = self._threat.around(batch.features)
        points = reach.records
        if self._moves is not None:
            rows = min(len(points), len(self._moves))
            points = torch.cat([points[:rows] + self._moves[:rows], points[rows:]])
        attacked = reach.legal(reach.inside(points)).detach().clone().requires_grad_()
        self._last = (reach, attacked)
        return attacked

    def loss(self, module: nn.Module, batch: Batch, attacked: Tensor) -> Tensor:
        """See the class."""
        return self.cross_entropy(module, batch, attacked)

    def _learn_moves(self) -> None:
        """One step up the slope that the last backward pass left."""
        if self._last is None:
            return
        reach, attacked = self._last
        if attacked.grad is None:  # nothing was learned from it
            return
        slope = reach.movable(torch.nan_to_num(-attacked.grad.flatten(1), nan=0.0))
        points = reach.inside(reach.step(attacked.detach().flatten(1), slope, self.setting.options.length))
        moves = points - reach.records
        if self._moves is not None and len(self._moves) > len(moves):
            moves = torch.cat([moves, self._moves[len(moves) :]])
        self._moves = moves
