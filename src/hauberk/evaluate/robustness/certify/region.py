"""Where a threat model lets records go, as far as linear bounds can use it: a box, and a ball where the norm is L2.

What a threat model knows beyond that (integers, relations, one-hot groups of which one column is 1) is left out, which
makes the set larger and the bound lower, and so keeps it sound.
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
    """

    box: Interval
    records: Tensor
    radius: float | None
    round: Tensor

    @classmethod
    def of(cls, threat: FeatureThreat, records: NDArray[np.float32]) -> Region:
        """The region of records float32 [N, D].

        Raises:
            InputError: A column has no bounds, neither by the norm nor by the box.
        """
        lowest, highest = threat.limits(records)
        if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
            column = int(np.argwhere(~(np.isfinite(lowest) & np.isfinite(highest)))[0, 1])
            raise InputError(f"cannot certify: column {column} has no bounds in the threat model")
        within = threat.mutable.copy()
        for group in threat.groups:
            within[group] = False
        box = Interval(*(torch.from_numpy(np.ascontiguousarray(end, np.float64)) for end in (lowest, highest)))
        radius = threat.radius if threat.norm == "l2" else None
        return cls(box, torch.from_numpy(records.astype(np.float64)), radius, torch.from_numpy(within))

    def minimum(self, coefficients: Tensor, records: Tensor) -> Tensor:
        """Lower bounds, float64 [n, S], of linear functions [n, S, D] over the regions of some records, int64 [n].

        Over the box it is the minimum. A ball has its own bound (the dual norm), in which columns that the box keeps
        from moving the way that lowers the function have no part; the better one of the two holds.
        """
        low, high = self.box.low[records], self.box.high[records]
        slack = SLACK * self.box.magnitude[records]
        positive = coefficients.clamp(min=0.0)
        negative = coefficients - positive
        least = dot(positive, low - slack) + dot(negative, high + slack)
        if self.radius is None:
            return least
        centre = self.records[records]
        # Columns outside the ball (one-hot groups) take the worst of the box; the others start from the record.
        down, up = (torch.where(self.round, centre, end) for end in (low, high))
        start = dot(positive, down - slack) + dot(negative, up + slack)
        sinks, rises = ((self.round & room).to(torch.float64).unsqueeze(1) for room in (centre > low, high > centre))
        length = torch.linalg.vector_norm(positive * sinks + negative * rises, dim=2)
        return torch.maximum(least, start - self.radius * (1.0 + SLACK) * length)
