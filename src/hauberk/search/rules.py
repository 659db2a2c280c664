"""Whom a model has to stand, as the user names them: a radius, or a threat model from a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.attacks import FeatureThreat
from hauberk.attacks.threat_file import ThreatFile, inferred, load_threat
from hauberk.errors import InputError
from hauberk.evaluate.robustness.protocol import Budget, Goal, Reach
from hauberk.schema import FeatureSpace

DEFAULT_RADIUS = 0.05


class Rules(msgspec.Struct, frozen=True):
    """The threat model of an evaluation, as it was applied.

    Attributes:
        name: Of the threat model.
        words: All of it in a few sentences.
        norm: What the radius bounds.
        radius: In units of the feature space; 0 where there is no norm.
        knowledge: What the adversary knows.
        goal: What the adversary is after: "evade", "false-alarm", "any", or a class.
        queries: Most questions a record that the threat model allows each attack; `None`: what the budget says.
        wanted: The class that the adversary wants named, where the goal is one.
    """

    name: str
    words: str
    norm: Literal["linf", "l2", "none"]
    radius: float
    knowledge: Reach
    goal: str
    queries: int | None = None
    wanted: int | None = None

    @property
    def goal_of_sample(self) -> Goal:
        """Which records the goal is about."""
        if self.goal == "evade":
            return "evade"
        return "false-alarm" if self.goal == "false-alarm" else "any"


@dataclass(frozen=True)
class Adversary:
    """Who attacks, and at what expense.

    Attributes:
        budget: What may be spent.
        threat: A threat model by file or by name; `None` for the ball around each record.
        radius: Of that ball (L-infinity); also in place of the one in the file, where it is given.

    Raises:
        InputError: The radius is negative or not finite.
    """

    budget: Budget
    threat: ThreatFile | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None and not (math.isfinite(self.radius) and self.radius >= 0):
            raise InputError(f"the adversary's radius is {self.radius}; it must be a finite number of at least 0")

    def rules(
        self,
        bounds: tuple[NDArray[np.float32], NDArray[np.float32]],
        mutable: NDArray[np.bool_],
        shape: tuple[int, ...],
        space: FeatureSpace | None,
        *,
        records: bool = False,
    ) -> tuple[Rules, FeatureThreat]:
        """The threat model, made for what is attacked.

        Args:
            bounds: Float32 [D] twice, the range of each feature.
            mutable: Bool [D], the features that may move where no threat model says more.
            shape: Shape of one record; () for a row of a table.
            space: How a record becomes features, where that is known.
            records: Whether only whole records can be shown to the model, whole numbers whole.

        Raises:
            InputError: The threat model does not fit the schema, or speaks of columns where there are none.
        """
        stated = self._stated(records=records)
        if stated is None:
            radius = DEFAULT_RADIUS if self.radius is None else self.radius
            ball = FeatureThreat(radius, *bounds, mutable, shape=shape)
            return Rules("ball", ball.describe(), "linf", radius, "white-box", "any"), ball
        if space is None:
            raise InputError(
                f"threat model {stated.name!r}: it speaks of the features of single records, and this model reads"
                f" {'records of shape ' + str(list(shape)) if shape else 'features without names'}; use --radius"
            )
        made = stated.threat(space)
        return _rules(stated, made, space), made

    def _stated(self, *, records: bool) -> ThreatFile | None:
        """The threat model as data; `None` for the ball."""
        stated = self.threat
        if stated is None:
            radius = DEFAULT_RADIUS if self.radius is None else self.radius
            return inferred(radius, moves="records") if records and radius else None
        if self.radius is not None:
            if stated.norm == "none":
                raise InputError(f"threat model {stated.name!r}: it has no norm, so that --radius means nothing")
            stated = msgspec.structs.replace(stated, radius=self.radius)
        return msgspec.structs.replace(stated, moves="records") if records else stated


def find_threat(name: str | Path | None) -> ThreatFile | None:
    """A threat model from a file, or one of those that come with Hauberk."""
    return None if name is None else load_threat(name)


def _rules(stated: ThreatFile, made: FeatureThreat, space: FeatureSpace) -> Rules:
    wanted = None
    if stated.goal not in ("any", "evade", "false-alarm"):
        label = space.schema.label
        if label is None or stated.goal not in label.classes:
            known = "" if label is None else f"; classes are {', '.join(label.classes)}"
            raise InputError(f"threat model {stated.name!r}: the goal {stated.goal!r} is no class{known}")
        wanted = label.classes.index(stated.goal)
    return Rules(
        name=stated.name,
        words=f"{stated.describe()} {made.describe()}",
        norm=made.norm,
        radius=made.radius,
        knowledge=stated.knowledge,
        goal=stated.goal,
        queries=stated.queries,
        wanted=wanted,
    )
