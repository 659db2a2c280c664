"""Who has to stand the attacks, and how closely the modules that gradients come from follow the real session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.artifact import Predictor
from hauberk.attacks import FeatureThreat, Judge, ScoredModel, WhiteBox
from hauberk.errors import ContractError
from hauberk.evaluate.quality import check_margins, rate_measurement
from hauberk.evaluate.robustness.figures import Fidelity
from hauberk.schema import Decision

Features = NDArray[np.float32]
Targets = NDArray[np.int64]
_BATCH = 512


@dataclass(frozen=True)
class Defender:
    """A candidate that has to stand the attacks.

    Attributes:
        predictor: The real session of the core: features to logits.
        decision: From logits to a label: a detector's decision with the candidate's own threshold, or classes.
        twin: A differentiable module in evaluation mode that computes what the session does; `None` where there is
            none, and then nobody can say whether its gradients mislead.
        substitute: A differentiable module in evaluation mode that was trained to answer as the session does
            (evaluation itself trains nothing); for a graph that has no gradient.
    """

    predictor: Predictor
    decision: Judge
    twin: torch.nn.Module | None = None
    substitute: torch.nn.Module | None = None

    @property
    def session(self) -> ScoredModel:
        """The real session as attacks see it."""
        return ScoredModel(self.predictor.predict, self.decision, _BATCH)

    def logits(self, features: Features) -> NDArray[np.float32]:
        """What the real session answers to features float32 [N, D], checked.

        Raises:
            ContractError: It answers NaN to a record that nobody touched.
        """
        starts = range(0, max(len(features), 1), _BATCH)
        logits = np.concatenate([self.predictor.predict(features[start : start + _BATCH]) for start in starts])
        if isinstance(self.decision, Decision):
            check_margins(self.decision.margin(logits))
        elif np.isnan(logits).any():
            raise ContractError(f"the model answers NaN to {int(np.isnan(logits).any(axis=1).sum())} records")
        return logits


def labels(judge: Judge, logits: NDArray[np.float32]) -> Targets:
    """Int64 [N]: what the judge makes of logits float32 [N, K]; 1 for attack, or the class."""
    if isinstance(judge, Decision):
        return (judge.margin(logits) >= np.float32(judge.threshold)).astype(np.int64)
    named: Targets = logits.argmax(axis=1).astype(np.int64)
    return named


def measure_fidelity(
    defender: Defender,
    module: torch.nn.Module,
    clean: Features,
    attacked: Features,
    targets: Targets,
    threat: FeatureThreat,
) -> Fidelity:
    """Compare the defender's twin or substitute with its real session.

    Args:
        defender: Whose session it is.
        module: Its twin or its substitute.
        clean: Float32 [N, D], records that nobody touched.
        attacked: Float32 [M, D], what attacks on the module made of them.
        targets: Int64 [N], of `clean`.
        threat: Tells which columns may move.
    """
    model = WhiteBox(module, defender.decision)
    real, seen = defender.logits(clean), _in_batches(model, clean)
    is_twin = module is defender.twin
    # A substitute learns answers; its logits may be another pair with the same difference.
    real_values, seen_values = (each if is_twin else _margins(defender.decision, each) for each in (real, seen))
    difference = (seen_values - real_values).astype(np.float64)
    scale = float(np.sqrt(np.mean(real_values.astype(np.float64) ** 2)))
    error = float(np.sqrt(np.mean(difference**2)))
    alike = labels(defender.decision, seen) == labels(defender.decision, real)
    answered = _unchecked(defender, attacked)
    alike_attacked = labels(defender.decision, _in_batches(model, attacked)) == labels(defender.decision, answered)
    return Fidelity(
        module="twin" if is_twin else "substitute",
        agreement=rate_measurement("agreement", alike, None, seed=0),
        agreement_attacked=rate_measurement("agreement", alike_attacked, None, seed=0),
        error=error / scale if scale else error,
        largest=float(np.abs(difference).max(initial=0.0)),
        blind=rate_measurement("blind", _blind(model, clean, targets, threat), None, seed=0),
    )


def _unchecked(defender: Defender, features: Features) -> NDArray[np.float32]:
    """The session's answers to attacked records, where a NaN is an answer like any other."""
    starts = range(0, max(len(features), 1), _BATCH)
    return np.concatenate([defender.predictor.predict(features[start : start + _BATCH]) for start in starts])


def _in_batches(model: WhiteBox, features: Features) -> NDArray[np.float32]:
    starts = range(0, max(len(features), 1), _BATCH)
    return np.concatenate([model.logits(features[start : start + _BATCH]) for start in starts])


def _margins(judge: Judge, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return judge.margin(logits) if isinstance(judge, Decision) else logits - logits.mean(axis=1, keepdims=True)


def _blind(model: WhiteBox, features: Features, targets: Targets, threat: FeatureThreat) -> NDArray[np.bool_]:
    """Bool [N]: records at which no column that may move has a gradient."""
    lowest, highest = threat.limits(features)
    blind = np.empty(len(features), dtype=np.bool_)
    for start in range(0, len(features), _BATCH):
        rows = slice(start, start + _BATCH)
        points = torch.tensor(features[rows], requires_grad=True)
        with torch.enable_grad():
            headroom = model.headroom_of(points, torch.tensor(targets[rows]))
        if headroom.requires_grad:
            (slope,) = torch.autograd.grad(headroom.sum(), points, allow_unused=True, materialize_grads=True)
            felt = np.nan_to_num(slope.numpy(), nan=0.0) != 0
        else:
            felt = np.zeros_like(features[rows], dtype=np.bool_)
        blind[rows] = ~(felt & (lowest[rows] < highest[rows])).any(axis=1)
    return blind
