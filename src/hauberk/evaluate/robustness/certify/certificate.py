"""Certified accuracy: for which records the answer is proved to be right wherever the threat model lets them go.

    certified accuracy  <=  true robust accuracy  <=  what attacks leave

The lower end is computed here, once for each record, without any search: a bound of the headroom (`attacks.judge`)
over all points of the threat model and all roundings of the deployed graph. Where it is above 0, no attack can succeed,
known or unknown. Where it is not, nothing is said: the bound may be loose.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hauberk.artifact import OnnxArtifact
from hauberk.attacks.judge import Classes, Judge, check_targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError
from hauberk.evaluate.quality import rate_measurement
from hauberk.evaluate.robustness.certify.bounds import Bounds
from hauberk.evaluate.robustness.certify.figures import Certified, Method
from hauberk.evaluate.robustness.certify.program import Program, read_program
from hauberk.evaluate.robustness.certify.region import Region
from hauberk.evaluate.robustness.certify.rounding import gamma
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

METHODS: tuple[Method, ...] = ("ibp", "crown")


@dataclass(frozen=True)
class CertifiedResult:
    """What certification found.

    Attributes:
        figures: As plain data.
        headroom: Float64 [N], a lower bound of the headroom of each record over all points of the threat model; minus
            infinity where the bounds overflow.
        certified: Bool [N], where it is above 0: the answer is right and stays right.
    """

    figures: Certified
    headroom: NDArray[np.float64]
    certified: NDArray[np.bool_]


def certify(
    artifact: OnnxArtifact,
    judge: Judge,
    records: LabelledFeatures,
    threat: FeatureThreat,
    method: Method = "crown",
    *,
    batch_size: int = 256,
) -> CertifiedResult:
    """Bound the headroom of records over a threat model.

    Args:
        artifact: The core as it is deployed, quantized or not: features float32 [batch, *shape] to logits.
        judge: What makes an answer of its logits.
        records: Features float32 [N, D] or [N, *shape], finite, with the answers that are right.
        threat: How far records may be moved.
        method: "ibp", fast and loose, or "crown", never looser.
        batch_size: Records bounded together. It changes the speed, and nothing else.

    Raises:
        InputError: An operator that cannot be certified, named with its node; or records, threat, judge and graph that
            do not fit each other.
    """
    if method not in METHODS:
        raise InputError(f"certify: the method must be one of {', '.join(METHODS)}, not {method!r}")
    if batch_size < 1:
        raise InputError(f"certify: the batch size must be at least 1, not {batch_size}")
    program = read_program(artifact)
    features = _rows(program, judge, records, threat)
    begin = time.perf_counter()
    found = np.full(len(features), -np.inf)
    for start in range(0, len(features), batch_size):
        part = slice(start, start + batch_size)
        bounds = Bounds(program, Region.of(threat, features[part]), method)
        found[part] = least_headroom(bounds, judge, torch.from_numpy(records.targets[part])).numpy()
    found = np.where(np.isnan(found), -np.inf, found)
    seconds = time.perf_counter() - begin
    certified = found > 0
    note = f"answers that no point of the threat model changes, proved by {method}; the true share may be higher"
    figure = rate_measurement("certified_accuracy", certified, None, seed=0, note=note)
    return CertifiedResult(Certified(method, threat.norm, threat.radius, figure, seconds), found, certified)


def least_headroom(bounds: Bounds, judge: Judge, targets: Tensor) -> Tensor:
    """Lower bounds float64 [N] of the headroom of records with targets int64 [N].

    The roundings of the decision itself are granted: a difference of two float32 numbers is compared with the threshold
    after it is rounded.
    """
    if isinstance(judge, Classes):
        return _class_headroom(bounds, judge, targets)
    side = torch.where(targets == 1, 1.0, -1.0).to(torch.float64)
    threshold = float(np.float32(judge.threshold))
    least = _margin(bounds, judge, side) - side * threshold
    return least - gamma(2) * abs(threshold)


def _margin(bounds: Bounds, decision: Decision, side: Tensor) -> Tensor:
    """Lower bounds [N] of `side * margin`."""
    if decision.outputs == 1:
        return bounds.least(side.reshape(-1, 1, 1))[:, 0]
    attack = [place for place in range(decision.outputs) if place != decision.benign]
    rows = torch.zeros(len(side), len(attack), decision.outputs, dtype=torch.float64)
    rows[:, torch.arange(len(attack)), torch.tensor(attack)] = side[:, None]
    rows[:, :, decision.benign] = -side[:, None]
    found = bounds.least(rows)
    if len(attack) == 1:
        return found[:, 0]
    # The log of the sum of exp grows with each of its terms, so that bounds of the terms are bounds of it.
    differences = found * side[:, None]
    evidence = differences.logsumexp(dim=1)
    return side * evidence - gamma(len(attack) + 8) * (1.0 + differences.abs().amax(1))


def _class_headroom(bounds: Bounds, judge: Classes, targets: Tensor) -> Tensor:
    """Of the right class against every other; towards a wanted class, of the best other one against it."""
    one = targets if judge.wanted is None else torch.full_like(targets, judge.wanted)
    sign = 1.0 if judge.wanted is None else -1.0
    shift = torch.arange(1, judge.outputs)
    others = (one[:, None] + shift) % judge.outputs
    rows = torch.zeros(len(one), judge.outputs - 1, judge.outputs, dtype=torch.float64)
    rows.scatter_(2, others.unsqueeze(2), -sign)
    rows.scatter_(2, one[:, None, None].expand(-1, judge.outputs - 1, 1), sign)
    gaps = bounds.least(rows)
    return gaps.amin(1) if judge.wanted is None else gaps.amax(1)


def _rows(program: Program, judge: Judge, records: LabelledFeatures, threat: FeatureThreat) -> NDArray[np.float32]:
    """The records as rows [N, D], seen to fit everything else."""
    if judge.outputs != program.outputs:
        raise InputError(f"certify: the graph has {program.outputs} logits; the decision is of {judge.outputs}")
    check_targets(judge, records.targets)
    width = int(np.prod(program.shape))
    features = records.features.reshape(len(records), -1) if len(records) else records.features.reshape(0, width)
    if features.shape[1] != width or threat.width != width or features.dtype != np.float32:
        raise InputError(
            f"certify: the graph takes float32 records of {width} numbers; got {records.features.dtype}"
            f" {list(records.features.shape)} and a threat model of {threat.width} columns"
        )
    if len(records.targets) != len(features):
        raise InputError(f"certify: there are {len(records.targets)} targets for {len(features)} records")
    if not np.isfinite(features).all():
        raise InputError("certify: features hold a NaN or an infinity; certify finite records")
    return np.ascontiguousarray(features)
