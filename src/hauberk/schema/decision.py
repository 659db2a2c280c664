"""From the core's outputs to a score and a label.

The core of a detector ends in `logits` float32 [N, K]. Their **margin** is the log-odds of "attack": positive means
attack is the likelier answer. A score is the sigmoid of the margin, in (0, 1); the label is 1 where the margin reaches
the threshold. The threshold is kept on the margin because float32 scores saturate at 1 long before margins do.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How logits become a score and a label.

    Attributes:
        outputs: K, the number of logits. K = 1 is the log-odds of "attack" itself.
        benign: Index of the benign logit (ignored where K = 1).
        threshold: On the margin (log-odds); 0 is a score of 0.5.
    """

    outputs: int = 2
    benign: int = 0
    threshold: float = 0.0

    @property
    def score_threshold(self) -> float:
        """The threshold as a score in [0, 1]."""
        return float(sigmoid(np.array([self.threshold]))[0])

    def margin(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds of attack, float32 [N], from logits float32 [N, K]."""
        if self.outputs == 1:
            return logits[:, 0]
        attack = np.delete(logits, self.benign, axis=1)
        if attack.shape[1] == 1:
            evidence = attack[:, 0]
        else:
            top = attack.max(axis=1)
            evidence = top + np.log(np.exp(attack - top[:, None]).sum(axis=1))
        margin: NDArray[np.float32] = evidence - logits[:, self.benign]
        return margin


def sigmoid(margin: NDArray[np.floating]) -> NDArray[np.floating]:
    """Score in [0, 1] of a margin, without overflow."""
    score: NDArray[np.floating] = 0.5 * (np.tanh(0.5 * margin) + 1.0)
    return score
