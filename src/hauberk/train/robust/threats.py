"""What the reference detectors of records, windows and images are trained against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from hauberk.attacks import FeatureThreat
from hauberk.attacks.threat import Norm
from hauberk.errors import InputError
from hauberk.schema import FeatureSpace, ImageSpace
from hauberk.train.robust.options import RobustOptions

Space = TypeVar("Space", FeatureSpace, ImageSpace)


@dataclass(frozen=True)
class UnderAttack(Generic[Space]):
    """How a reference detector is trained on attacked records.

    Attributes:
        options: How records are attacked, and what is learned from them.
        threat: How far the adversary moves a record or an image of a space; of a window, each of its records.
        balance_kinds: How far rare kinds of attack weigh more, 0 to 1; see `hauberk.train.weights_by_kind`. Images
            have no kinds but their classes, which have weights already.
    """

    options: RobustOptions
    threat: Callable[[Space], FeatureThreat]
    balance_kinds: float = 0.0


def every_column(space: FeatureSpace, radius: float, *, norm: Norm = "linf") -> FeatureThreat:
    """A ball over all columns of a feature space: numbers that the schema calls immutable and one-hot columns, too.

    No real adversary moves a record so. It is the setting of most published figures on tables.

    Args:
        space: Of records.
        radius: In units of the feature space, above 0.
        norm: Of the ball.
    """
    low, high = space.bounds
    return FeatureThreat(radius, low, high, np.ones(space.width, np.bool_), norm=norm)


def of_windows(threat: FeatureThreat, window: int) -> FeatureThreat:
    """The threat of windows [T, D], every record of which is moved as a single one is.

    Args:
        threat: Of single records [D]; under the L2 norm the ball is that of the whole window.
        window: T, at least 1.

    Raises:
        InputError: The threat knows more of columns than box and ball.
    """
    if type(threat) is not FeatureThreat:
        raise InputError(
            "robust training: a threat model of one-hot groups, whole numbers or relations is for single records;"
            " windows are trained against a norm and a radius"
        )
    return FeatureThreat(
        threat.radius,
        np.tile(threat.low, window),
        np.tile(threat.high, window),
        np.tile(threat.mutable, window),
        norm=threat.norm,
        shape=(window, threat.width),
    )


def of_images(space: ImageSpace, radius: float, *, norm: Norm = "linf") -> FeatureThreat:
    """A ball around images, within the range of pixels.

    Args:
        space: Of images.
        radius: In units of the feature space, where a channel has deviation 1; above 0.
        norm: Of the ball.
    """
    low, high = (end.ravel() for end in space.bounds)
    return FeatureThreat(radius, low, high, np.ones(low.size, np.bool_), norm=norm, shape=space.shape)
