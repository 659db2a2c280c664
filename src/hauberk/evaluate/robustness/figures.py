"""What attacks achieved, as plain data: reports show it and evidence carries it."""

from __future__ import annotations

from typing import Literal

import msgspec

from hauberk.measurement import Measurement

Knowledge = Literal["white-box", "transfer", "scores"]


class AttackFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one attack achieved against one candidate.

    Attributes:
        attack: Name of the attack ("fgsm", "pgd", "score-search", …).
        knowledge: How it was aimed: "white-box" at the candidate's own gradients, by "transfer" from the baseline's,
            or by the "scores" of the candidate's real session.
        survived: Share of records that the candidate's real session still classifies right, with its interval.
        queries: Most queries that a record cost on the real session; 0 for attacks that need none.
    """

    attack: str
    knowledge: Knowledge
    survived: Measurement
    queries: int
