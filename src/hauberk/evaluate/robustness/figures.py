"""What attacks achieved, as plain data: reports show it and evidence carries it."""

from __future__ import annotations

from typing import Literal

import msgspec

from hauberk.measurement import Measurement

Knowledge = Literal["white-box", "transfer", "substitute", "scores", "labels"]
Verdict = Literal["gradient masking", "no gradient masking found", "not decided"]


class AttackFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one attack achieved against one candidate.

    Attributes:
        attack: Name of the attack ("fgsm", "pgd", "square", …).
        knowledge: How it was aimed: "white-box" at the gradients of the candidate's own twin, by "transfer" from the
            baseline's twin, at a "substitute" that learnt the candidate's answers, or by the "scores" or the "labels"
            of the candidate's real session.
        survived: Share of records that the candidate's real session still answers right, with its interval.
        queries: Most queries that a record cost on the real session; 0 for attacks that need none.
        mean_queries: Queries a record on average, over the records that were attacked.
        seconds: Wall-clock time that the attack took; of transfer, that of showing its records to the session.
        on_model: The same share by the module that gradients were taken from; `None` where the session itself was
            attacked. Where it is far below `survived`, what fools the module does not fool the session.
        answer: Whether the attack was run because masking was suspected, on what still stood.
    """

    attack: str
    knowledge: Knowledge
    survived: Measurement
    queries: int
    mean_queries: float = 0.0
    seconds: float = 0.0
    on_model: Measurement | None = None
    answer: bool = False


class Fidelity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How closely a module that gradients are taken from does what the real session does.

    Attributes:
        module: "twin", or "substitute".
        agreement: Share of records that both label alike, untouched.
        agreement_attacked: The same over the records that the white-box attacks made: there it matters.
        error: Root mean square of the difference of logits over that of the session's, untouched; of a substitute
            over margins, whose scale it learns.
        largest: Largest difference of a logit, untouched.
        blind: Share of records at which the gradient is exactly zero in every column that may move.
    """

    module: Literal["twin", "substitute"]
    agreement: Measurement
    agreement_attacked: Measurement
    error: float
    largest: float
    blind: Measurement


class RadiusPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left at one radius: the share of records that no attack of the sweep made the session get wrong."""

    radius: float
    survived: Measurement


class StepPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What so many steps achieve.

    Attributes:
        steps: Steps of one restart, from the records themselves.
        headroom: Mean of how far the module's answers are still on the right side, in units of logits; negative: wrong.
        survived: Share of records that the session still answers right.
    """

    steps: int
    headroom: float
    survived: Measurement


class Curves(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How accuracy falls with the radius, and the headroom with the steps.

    Attributes:
        attack: What the sweep was made with.
        records: How many records of those attacked.
        radii: Ascending, until nothing is left or records cannot move further; empty where the threat has no radius.
        steps: Ascending; empty without a module to take gradients from.
        remarks: What a reader must know, one sentence each.
    """

    attack: str
    records: int
    radii: tuple[RadiusPoint, ...] = ()
    steps: tuple[StepPoint, ...] = ()
    remarks: tuple[str, ...] = ()


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
        done: What was done about it, one sentence each; empty where no masking was found.
        agreement: Share of these records to which the session gives the baseline's answer; 1 for the baseline itself.
        robust_of_both: Robust accuracy over the records that baseline and candidate both get right untouched: there
            clean accuracy has no part in it. Of no records where there are none.
        fidelity: Of the modules that gradients were taken from, the twin's first.
        curves: How accuracy falls with the radius and with steps; `None` where it was not asked for.
        seconds: Wall-clock time that all of it took for this candidate.
    """

    robust_accuracy: Measurement
    clean_accuracy: Measurement
    attacks: tuple[AttackFigures, ...]
    verdict: Verdict
    reason: str
    done: tuple[str, ...] = ()
    agreement: Measurement | None = None
    robust_of_both: Measurement | None = None
    fidelity: tuple[Fidelity, ...] = ()
    curves: Curves | None = None
    seconds: float = 0.0
