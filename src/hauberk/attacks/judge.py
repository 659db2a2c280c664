"""When an answer is right, and how far it is from being wrong: the one rule that every attack works against.

A judge is what stands behind the logits: a detector's `Decision` with its threshold, or `Classes`, where the largest
of K logits names the class. Attacks see nothing of the difference. They lower a record's **headroom**, positive as
long as the answer is right:

    detection:       headroom = (margin - threshold) for an attack record, (threshold - margin) for a benign one
    classification:  headroom = logit of the right class - largest other logit   (the margin of Carlini and Wagner 2017,
                     arXiv:1608.04644)
    towards a class: headroom = largest other logit - logit of that class

It does not saturate, and it means something for two classes, which the difference-of-logits ratio (DLR) does not.
"""

from __future__ import annotations

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hauberk.errors import InputError
from hauberk.schema import Decision

Targets = NDArray[np.int64]


class Classes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest of K logits names the class; of equal ones the first.

    Attributes:
        outputs: K, at least 2.
        wanted: The class that the adversary is after; `None`: any but the right one will do.

    Raises:
        InputError: Fewer than two classes, or a wanted class that is none of them.
    """

    outputs: int
    wanted: int | None = None

    def __post_init__(self) -> None:
        if self.outputs < 2:
            raise InputError(f"classes: there must be at least 2, not {self.outputs}")
        if self.wanted is not None and not 0 <= self.wanted < self.outputs:
            raise InputError(f"classes: the wanted class must be 0 to {self.outputs - 1}, not {self.wanted}")


Judge = Decision | Classes
"""What makes an answer of logits [N, K]."""


def check_targets(judge: Judge, targets: Targets) -> None:
    """Refuse labels that the judge does not know.

    Args:
        judge: Whose labels they are.
        targets: Int64 [N].

    Raises:
        InputError: Another dtype or shape, or a label out of range; the message names the first.
    """
    classes = judge.outputs if isinstance(judge, Classes) else 2
    meaning = f"0 to {classes - 1}" if isinstance(judge, Classes) else "0 for benign and 1 for attack"
    if targets.ndim != 1 or targets.dtype != np.int64:
        raise InputError(f"attack: targets must be int64 [N], {meaning}; not {targets.dtype} {list(targets.shape)}")
    wrong = np.flatnonzero((targets < 0) | (targets >= classes))
    if wrong.size:
        raise InputError(f"attack: record {wrong[0]} has the target {targets[wrong[0]]}; right is {meaning}")


def headroom(judge: Judge, logits: Tensor, targets: Tensor) -> Tensor:
    """How far each answer is on the right side, [N] in the unit of logits, with its gradient.

    Negative means wrong; 0 is right for an attack record alone. A NaN never reaches a threshold: it is as bad as can be
    for an attack record, and as good as can be for a benign one. Among classes it counts as wrong.

    Args:
        judge: The rule.
        logits: Float [N, K].
        targets: Int64 [N].

    Raises:
        InputError: The logits are not [N, K] with the judge's K.
    """
    if logits.ndim != 2 or logits.shape[1] != judge.outputs:
        raise InputError(f"attack: expected logits [N, {judge.outputs}] of the model, got {list(logits.shape)}")
    if isinstance(judge, Classes):
        return _class_headroom(judge, logits, targets)
    margins = margin(judge, logits)
    side = (2 * targets - 1).to(margins.dtype)
    distance = (margins - float(np.float32(judge.threshold))) * side
    unknown = margins.isnan()
    return torch.where(unknown, -side * torch.inf, distance) if unknown.any() else distance


def margin(decision: Decision, logits: Tensor) -> Tensor:
    """`Decision.margin` on a tensor: log-odds of attack [N] of logits [N, K], with its gradient."""
    if decision.outputs == 1:
        return logits[:, 0]
    if decision.outputs == 2:
        return logits[:, 1 - decision.benign] - logits[:, decision.benign]
    attack = torch.cat([logits[:, : decision.benign], logits[:, decision.benign + 1 :]], dim=1)
    return attack.logsumexp(dim=1) - logits[:, decision.benign]


def fooled(judge: Judge, found: Tensor, targets: Tensor) -> Tensor:
    """Bool [N]: whether headroom [N] means that the answer is wrong."""
    if isinstance(judge, Classes):
        return found < 0
    return torch.where(targets == 1, found < 0, found <= 0)


def right(judge: Judge, logits: Tensor, targets: Tensor) -> Tensor:
    """Bool [N]: whether the answer made of logits [N, K] is right, or, with a wanted class, is not that class.

    Among equal logits the first names the class, as `argmax` has it; where one is NaN, no class is right.
    """
    if isinstance(judge, Classes):
        named = logits.argmax(dim=1)
        known = ~logits.isnan().any(dim=1)
        return known & ((named == targets) if judge.wanted is None else (named != judge.wanted))
    return ~fooled(judge, headroom(judge, logits, targets), targets)


def _class_headroom(judge: Classes, logits: Tensor, targets: Tensor) -> Tensor:
    one = targets if judge.wanted is None else torch.full_like(targets, judge.wanted)
    own = logits.gather(1, one[:, None])[:, 0]
    others = logits.scatter(1, one[:, None], -torch.inf).amax(dim=1)
    distance = own - others if judge.wanted is None else others - own
    tied = distance == 0
    if tied.any():  # the first of equal logits names the class: where that is wrong, so is the sign of the headroom
        wrong = (logits.argmax(dim=1) == one) == (judge.wanted is not None)
        distance = torch.where(tied & wrong, distance - torch.finfo(distance.dtype).tiny, distance)
    unknown = logits.isnan().any(dim=1)
    return torch.where(unknown, -torch.inf, distance) if unknown.any() else distance
