"""Where a threat model lets records go, as far as linear bounds can use it: a box, a ball under L2, one-hot groups.

What a threat model knows beyond that (integers, directions within the box, relations) is left out, which makes the set
larger and the bound lower, and so keeps it sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError
from hauberk.evaluate.robustness.certify.curves import Interval
from hauberk.evaluate.robustness.certify.operations import dot
from hauberk.evaluate.robustness.certify.rounding import SLACK


@dataclass(frozen=True)
class Region:
    """The points that some records may be moved to.

    Attributes:
        box: Lowest and highest value of each column, float64 [N, D].
        records: Float64 [N, D].
        radius: Of the ball around the record; `None` without one.
        round: Bool [D], the columns whose moves together are no longer than the radius.
        groups: One-hot groups that may move: one column is 1 and the others 0, or all are as they were.
    """

    box: Interval
    records: Tensor
    radius: float | None
    round: Tensor
    groups: tuple[range, ...]

    @classmethod
    def of(cls, threat: FeatureThreat, records: NDArray[np.float32]) -> Region:
        """The region of records float32 [N, D].

        Raises:
            InputError: A column has no bounds, neither by the norm nor by the box.
        """
        limits = threat.limits(records)
        unbounded = np.argwhere(~np.isfinite(limits).all(axis=0))
        if unbounded.size:
            raise InputError(f"cannot certify: column {unbounded[0, 1]} has no bounds in the threat model")
        own = torch.from_numpy(records.astype(np.float64))
        low, high = (torch.from_numpy(end.astype(np.float64)) for end in limits)
        together = threat.mutable.copy()
        for group in threat.groups:
            together[group.start : group.stop] = False
        return cls(
            box=Interval(torch.minimum(low, own), torch.maximum(high, own)),
            records=own,
            radius=threat.radius if threat.norm == "l2" else None,
            round=torch.from_numpy(together),
            groups=threat.groups,
        )

    @property
    def is_box(self) -> bool:
        """Whether the box is all that is known."""
        return self.radius is None and not self.groups

    def minimum(self, coefficients: Tensor, records: Tensor) -> Tensor:
        """Lower bounds, float64 [n, S], of linear functions [n, S, D] over the regions of some records, int64 [n].

        Over box and groups it is the minimum. A ball has its own bound (the dual norm), in which columns that the box
        keeps from moving the way that lowers the function have no part; the better one of the two holds.
        """
        slack = SLACK * self.box.magnitude[records]
        low, high, own = self.box.low[records] - slack, self.box.high[records] + slack, self.records[records]
        grouped, alone = torch.zeros(coefficients.shape[:2], dtype=torch.float64), coefficients
        if self.groups:
            alone = coefficients.clone()
        for group in self.groups:
            columns = slice(group.start, group.stop)
            part = coefficients[..., columns]
            stays = dot(part, own[:, columns]) - SLACK * dot(part.abs(), own[:, columns].abs())
            grouped = grouped + torch.minimum(part.amin(2), stays)
            alone[..., columns] = 0.0
        positive = alone.clamp(min=0.0)
        negative = alone - positive
        least = dot(positive, low) + dot(negative, high)
        if self.radius is not None:
            # What does not belong to the ball takes the worst of the box (it does not move), the rest starts at home.
            down, up = (torch.where(self.round, own - sign * slack, end) for sign, end in ((1, low), (-1, high)))
            start = dot(positive, down) + dot(negative, up)
            sinks = self._room(self.records > self.box.low, records)
            rises = self._room(self.records < self.box.high, records)
            length = torch.linalg.vector_norm(positive * sinks + negative * rises, dim=2)
            least = torch.maximum(least, start - self.radius * (1.0 + SLACK) * length)
        return grouped + least

    def _room(self, somewhere: Tensor, records: Tensor) -> Tensor:
        """Where columns of the ball have somewhere to go, float64 [n, 1, D]."""
        return (somewhere & self.round)[records].to(torch.float64).unsqueeze(1)
