"""What attacks achieved, as plain data: reports show it and evidence carries it."""

from __future__ import annotations

from typing import Literal

import msgspec

from hauberk.measurement import Measurement

Knowledge = Literal["white-box", "transfer", "scores"]
Verdict = Literal["gradient masking", "no gradient masking found", "not decided"]


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


class RobustnessResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the protocol found about one candidate.

    Attributes:
        robust_accuracy: Share of records that no attack made the real session get wrong, with its interval and the
            paired difference from the baseline.
        clean_accuracy: Share of the same records that the real session gets right unattacked, likewise.
        attacks: What each attack achieved on its own.
        verdict: "gradient masking" where an attack without the candidate's gradients beat the one with them by more
            than the interval; then white-box figures say nothing. "not decided" where there is no white-box attack.
        reason: One sentence: the figures that the verdict rests on.
    """

    robust_accuracy: Measurement
    clean_accuracy: Measurement
    attacks: tuple[AttackFigures, ...]
    verdict: Verdict
    reason: str
