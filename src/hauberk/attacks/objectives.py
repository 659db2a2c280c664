"""What gradient attacks descend: heights of an answer that fall as it goes wrong, none of which underflows.

With z the logits, y the right class, z_(1) >= z_(2) >= ... the logits in order, and t a rival class:

    margin          the headroom itself, see `hauberk.attacks.judge`
    cross-entropy   z_y - log sum exp of the others: the log-odds behind the cross-entropy
    dlr             (z_y - largest other) / (z_(1) - z_(3))
    towards t       (z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2), with z_(3) alone where there are three classes

Cross-entropy is softplus(-log-odds), which orders points alike, and its gradient has the direction of theirs. But its
own length is a probability that is 0 in float32 from log-odds of about 100: a model that is sure of itself would look
robust. Attacks that use the direction of a gradient and not its length lose nothing by taking the log-odds.

The difference-of-logits ratios (DLR) are those of Croce and Hein 2020 (arXiv:2003.01690), with the sign that descends.
They do not change when all logits are scaled or shifted. With two classes the first is always 1 or -1.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from hauberk.attacks.judge import Classes, Judge
from hauberk.errors import InputError

Objective = Literal["margin", "cross-entropy", "dlr"]

_TINY = 1e-12
"""Keeps equal logits from dividing by zero."""


def check_objective(objective: Objective, judge: Judge, attack: str) -> None:
    """Refuse an objective that means nothing for this judge.

    Raises:
        InputError: It is none that there is, or the difference-of-logits ratio without three classes.
    """
    if objective not in get_args(Objective):
        raise InputError(f"attack {attack}: the objective must be one of {', '.join(get_args(Objective))}")
    if objective == "dlr" and not (isinstance(judge, Classes) and judge.outputs >= 3):
        raise InputError(f"attack {attack}: the objective dlr needs three classes or more; take margin for two answers")


def height(objective: Objective, judge: Judge, logits: Tensor, targets: Tensor, headroom: Tensor) -> Tensor:
    """What is driven down, [N], with its gradient.

    Args:
        objective: Which height; see the head of this file.
        judge: Whose answers they are. A detector's `Decision` has the margin for every objective: its log-odds are the
            margin.
        logits: Float [N, K].
        targets: Int64 [N], the right answers.
        headroom: Float [N], that of these logits.
    """
    if objective == "margin" or not isinstance(judge, Classes):
        return headroom
    if judge.wanted is not None:
        wanted = torch.full_like(targets, judge.wanted)
        return -_log_odds(logits, wanted) if objective == "cross-entropy" else towards(logits, targets, wanted)
    if objective == "cross-entropy":
        return _log_odds(logits, targets)
    own = logits.gather(1, targets[:, None])[:, 0]
    largest = logits.topk(3, dim=1).values
    other = torch.where(own == largest[:, 0], largest[:, 1], largest[:, 0])
    return (own - other) / (largest[:, 0] - largest[:, 2] + _TINY)


def towards(logits: Tensor, targets: Tensor, rivals: Tensor) -> Tensor:
    """The targeted difference-of-logits ratio [N], with its gradient: negative where the rival beats the right class.

    Args:
        logits: Float [N, K], K at least 3.
        targets: Int64 [N], the right classes.
        rivals: Int64 [N], the classes to come to.
    """
    own, rival = (logits.gather(1, chosen[:, None])[:, 0] for chosen in (targets, rivals))
    largest = logits.topk(min(4, logits.shape[1]), dim=1).values
    return (own - rival) / (largest[:, 0] - largest[:, 2:].mean(dim=1) + _TINY)


def _log_odds(logits: Tensor, chosen: Tensor) -> Tensor:
    own = logits.gather(1, chosen[:, None])
    return own[:, 0] - logits.scatter(1, chosen[:, None], -torch.inf).logsumexp(dim=1)
